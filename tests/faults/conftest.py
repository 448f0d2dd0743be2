"""What the drills share: the states of a station to start from, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import shim
from .disk_stories import Stations


@pytest.fixture(scope="session")
def stations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stations]:
    """Stations whose commands go through the fault library."""
    if reason := shim.why_not():
        pytest.skip(reason)
    forks = shim.Forks()
    yield Stations(tmp_path_factory.mktemp("stations"), forks)
    forks.close()
