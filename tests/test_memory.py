"""Memory that was freed goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from monitor.service.periodic_tasks import PERIODIC_TASKS
from monitor.system import memory

HEAPS = """
import ctypes, threading
from monitor.system.memory import take_few_heaps
assert take_few_heaps()
gate = threading.Barrier(17)
def work():
    block = bytearray(50_000)
    gate.wait()
    gate.wait()
threads = [threading.Thread(target=work) for _ in range(16)]
for thread in threads:
    thread.start()
gate.wait()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
said = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, said)
libc.fflush(said)
gate.wait()
"""
HOLES = """
import psutil
from monitor.system.memory import give_back
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have one heap")
def test_sixteen_threads_share_two_heaps() -> None:
    def heaps(code: str) -> int:
        command = [sys.executable, "-c", code]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        return ran.stdout.count("<heap nr=")

    assert heaps(HEAPS) <= memory.HEAPS
    assert heaps(HEAPS.replace("assert take_few_heaps()", "")) > memory.HEAPS


def test_a_c_library_that_has_no_such_thing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    assert not memory.give_back()
    assert not memory.take_few_heaps()


def test_the_service_gives_memory_back_every_minute() -> None:
    assert PERIODIC_TASKS["memory"][0] == memory.GIVING_SECONDS <= 60
