"""Run a CosyVoice batch service on this machine, for listening, testing and measuring.

    from cosyclient.emulator import running

    with running(engine="espeak", rtt=0.2) as emulator:
        print(emulator.url)

It shares no code with the client, so a mistake in the client cannot pass its own test. Importing this package
is cheap; what synthesises and serves comes with ``pip install '.[emulator]'`` and is loaded when used.
"""

from cosyclient.emulator.counters import Counters
from cosyclient.emulator.echo import echo_text
from cosyclient.emulator.extra import EmulatorError, ExtraMissing
from cosyclient.emulator.running import Emulator, running, serve
from cosyclient.emulator.settings import Settings, add_arguments, from_arguments

__all__ = [
    "Counters",
    "Emulator",
    "EmulatorError",
    "ExtraMissing",
    "Settings",
    "add_arguments",
    "echo_text",
    "from_arguments",
    "running",
    "serve",
]
