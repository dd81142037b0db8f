"""A thread of the user continues after the main thread has ended: none of its calls is lost."""

from __future__ import annotations

import threading
import time

from cosyclient import ClientConfig, CosyClient, PacingConfig, RetryConfig

CONFIG = ClientConfig(pacing=PacingConfig(burst=100_000), retry=RetryConfig(initial=0.01))


def speak(client: CosyClient) -> None:
    """Print how many texts of each kind of call were spoken."""
    threading.main_thread().join()
    time.sleep(0.1)  # by now the pools of concurrent.futures refuse new threads
    print(len(client.batch_synth([f"batch {number}" for number in range(200)])))
    outcomes = client.synthesize_many([f"many {number}" for number in range(200)], ordered=False)
    print(sum(outcome.speech is not None for outcome in outcomes))
    print(sum(len(future.result().audio) > 44 for future in [client.submit(f"submit {n}") for n in range(50)]))
    print(len([client.synthesize(f"one {number}") for number in range(20)]))


if __name__ == "__main__":
    threading.Thread(target=speak, args=(CosyClient(requests_per_second=1e6, concurrency=4, config=CONFIG),)).start()
