"""Memory that was freed goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from monitor.duties import DUTIES
from monitor.resources import memory

HOLES = """
import psutil
from monitor.resources.memory import give_back
blocks = [bytearray(50_000) for _ in range(2000)]
last = blocks[-1]  # above it the heap ends: it cannot become smaller by itself
del blocks
before = psutil.Process().memory_info().rss
assert give_back()
print(before, psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep nothing back")
def test_what_was_freed_goes_back_to_the_system() -> None:
    ran = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    before, after = map(int, ran.stdout.split())
    assert before - after > 80_000_000, "of a hundred megabytes"


def test_a_c_library_that_keeps_nothing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_trim", lambda: None)
    assert not memory.give_back()


def test_the_service_gives_memory_back_every_minute() -> None:
    assert DUTIES["memory"][0] == memory.GIVING_SECONDS <= 60
