"""A CosyVoice service on this machine, for listening, testing and measuring.

```python
from cosyclient import CosyClient
from cosyclient.emulator import running

with running(engine="tone", rtt=0.05) as emulator, CosyClient(emulator.url) as cosy:
    cosy.synthesize("Hello.").save("hello.wav")
    print(emulator.counters().requests)  # 1
```

It shares no code with the client, so that a mistake in the client cannot pass its own test. Importing this package is
cheap; what synthesizes and serves comes with ``pip install '.[emulator]'`` and is loaded when used.
"""

from cosyclient.emulator.core.counters import Counters
from cosyclient.emulator.extra import EmulatorError, ExtraMissing
from cosyclient.emulator.server.launcher import Emulator, running, serve
from cosyclient.emulator.settings import Settings, add_arguments, from_arguments
from cosyclient.emulator.speech.echo import echo_text

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
