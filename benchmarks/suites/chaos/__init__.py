"""Random faults, restarts, interrupts, forks, cancels and closes, with each text accounted for."""
