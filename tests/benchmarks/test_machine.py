"""The machine's description, its cores, and processor time."""

from __future__ import annotations

import os

import pytest

from benchmarks.harness import machine


def test_the_description_names_what_matters() -> None:
    """In two lines for people."""
    about = machine.describe()
    assert about["cores"] == machine.cores()
    assert about["packages"]["cosyclient"]
    first, second = machine.sentence(about).splitlines()
    assert first.startswith(f"{about['cores']} cores of ")
    assert about["date"] in second


def test_client_and_service_have_cores_of_their_own_where_there_are_two() -> None:
    """One core is the client's, and the service gets the rest."""
    client, service = machine.part_cores()
    if machine.cores() > 1:
        assert len(client) == 1
        assert not client & service
    else:
        assert client == service


def test_processor_time_of_a_process_is_read() -> None:
    """None where there is no such process; a share of a core where there are two readings."""
    assert (machine.cpu_seconds(os.getpid()) or 0.0) > 0.0
    assert machine.cpu_seconds(1 << 30) is None
    assert machine.share_of_core(1.0, 2.0, 4.0) == pytest.approx(0.25)
    assert machine.share_of_core(None, 2.0, 4.0) is None
