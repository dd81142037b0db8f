"""One service instance: the permits to send to it, and what is counted and learnt from each attempt."""
