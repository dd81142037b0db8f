"""The table of APIs: served alone, each family has its own paths and no other's."""

from __future__ import annotations

import pytest

from cosyclient.emulator import Settings
from cosyclient.emulator.apis import FAMILIES, build_apis, build_grpc_apis
from cosyclient.emulator.core.service import Service


def paths(serve: str) -> list[str]:
    """Return the paths that are served with this setting."""
    service = Service(Settings(engine="tone", serve=serve))
    return [str(getattr(route, "path", "")) for api in build_apis(service) for route in api.routes()]


def test_every_family_has_paths_of_its_own() -> None:
    """So all can be served at once; LightTTS alone has its own paths beside those with its prefix."""
    alone = {name: set(paths(name)) for name in FAMILIES}
    assert all(alone.values())
    assert set().union(*alone.values()) - set(paths("all")) <= alone["lighttts"]


@pytest.mark.parametrize("name", ["all", *FAMILIES])
def test_serve_takes_every_family(name: str) -> None:
    """And nothing else."""
    assert Settings(serve=name).serve == name
    with pytest.raises(ValueError, match="serve must be one of all, batch"):
        Settings(serve=f"{name}s")


def test_no_method_is_served_by_two_grpc_apis() -> None:
    """The server joins their handlers into one table."""
    handlers = [api.handlers() for api in build_grpc_apis(Service(Settings(engine="tone")))]
    assert len({method for each in handlers for method in each}) == sum(map(len, handlers)) > 0
