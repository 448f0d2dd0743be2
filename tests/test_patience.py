"""Reads with a limit of time: what hangs is left alone, what comes back late is noticed."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitor.system import reads as patience_module
from monitor.system.limited import Hangs
from monitor.system.reading import Content, read_content
from monitor.system.reads import MOST_LEFT, MOST_STUCK, Patience, mount_of

SHARE = Path("/share")


class Share:
    """Files of which some hang until they are let go."""

    def __init__(self) -> None:
        self.hanging: set[bytes] = set()
        self.go = threading.Event()
        self.asked: list[bytes] = []

    def read(self, path: bytes) -> Content:
        self.asked.append(path)
        if path in self.hanging:
            assert self.go.wait(30)
        if path.endswith(b"gone.jpg"):
            raise FileNotFoundError(errno.ENOENT, "gone")
        if path.endswith(b"late.jpg"):
            raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")
        return Content(path, "", None)  # type: ignore[arg-type]


@pytest.fixture
def share() -> Iterator[Share]:
    share = Share()
    yield share
    share.go.set()


@pytest.fixture
def patience(share: Share) -> Iterator[Patience]:
    patience = Patience([SHARE, Path("/card")], 0.2, share.read)
    yield patience
    patience.close()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_file_that_answers_is_read_and_its_errors_are_its_own(patience: Patience) -> None:
    assert patience.read(b"/share/a.jpg").data == b"/share/a.jpg"
    with pytest.raises(FileNotFoundError):
        patience.read(b"/share/gone.jpg")
    with pytest.raises(TimeoutError, match="Connection timed out") as caught:
        patience.read(b"/share/late.jpg")
    assert not isinstance(caught.value, Hangs), "the share itself has answered"
    assert patience.stuck() == {}


def test_one_that_hangs_is_given_up_and_named_and_others_are_read(
    share: Share, patience: Patience
) -> None:
    share.hanging = {b"/share/a.jpg"}
    with pytest.raises(Hangs, match="no answer within 0 s"):
        patience.read(b"/share/a.jpg")
    assert "/share/a.jpg hangs" in patience.stuck()[SHARE]
    assert patience.read(b"/share/b.jpg").data == b"/share/b.jpg"
    for _ in range(20):
        with pytest.raises(Hangs, match="/share does not answer"):
            patience.read(b"/share/a.jpg")
    until(lambda: len(share.asked) == 3)
    time.sleep(0.1)
    assert len(share.asked) == 3, "one more look, in case it was mounted anew, is all"


def test_where_more_hang_the_folder_is_let_alone_until_one_comes_back(
    share: Share, patience: Patience
) -> None:
    share.hanging = {b"/share/%d.jpg" % number for number in range(MOST_STUCK)}
    for path in sorted(share.hanging):
        with pytest.raises(Hangs):
            patience.read(path)
    began = time.monotonic()
    with pytest.raises(Hangs, match="/share does not answer"):
        patience.read(b"/share/good.jpg")
    assert time.monotonic() - began < 0.1, "at once: no thread is lost for each of its files"
    assert patience.read(b"/card/good.jpg").data == b"/card/good.jpg"
    share.hanging.clear()
    share.go.set()
    until(lambda: patience.stuck() == {})
    assert patience.read(b"/share/good.jpg").data == b"/share/good.jpg"


def test_a_thread_reads_for_one_thread_and_ends_with_the_rest(share: Share) -> None:
    patience = Patience([SHARE], 0.2, share.read)
    for number in range(50):
        patience.read(b"/share/%d.jpg" % number)
    (own,) = patience._readers
    other = threading.Thread(target=patience.read, args=(b"/share/a.jpg",))
    other.start()
    other.join(5)
    until(lambda: patience._readers == {own})
    patience.close()
    own.join(5)
    assert patience._readers == set()


def test_a_file_outside_the_watched_folders_is_read_at_once(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"abc")
    before = threading.active_count()
    assert Patience([SHARE]).read(str(file).encode()) == read_content(str(file).encode())
    assert threading.active_count() == before


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is mounted at the share: its last."""
    mounts = ["first"]
    monkeypatch.setattr(patience_module, "mount_of", lambda folder: mounts[-1])
    monkeypatch.setattr(patience_module, "PROBE_SECONDS", 0.1)
    return mounts


def hangs_at(patience: Patience, path: bytes) -> bool:
    try:
        patience.read(path)
    except Hangs:
        return True
    return False


def test_a_folder_that_was_mounted_anew_is_read_although_old_reads_never_come_back(
    share: Share, patience: Patience, mounted: list[str]
) -> None:
    paths = [b"/share/%d.jpg" % number for number in range(MOST_STUCK)]
    share.hanging = set(paths)
    assert all(hangs_at(patience, path) for path in paths)
    assert hangs_at(patience, b"/share/good.jpg")  # by which it is looked at anew: that hangs, too
    time.sleep(0.2)
    asked = len(share.asked)
    for _ in range(20):
        assert hangs_at(patience, b"/share/good.jpg")
    assert len(share.asked) == asked, "no thread is lost while nothing has changed"
    share.hanging.clear()
    mounted.append("second")
    until(lambda: not hangs_at(patience, b"/share/good.jpg"))
    assert patience.stuck() == {}
    assert patience.read(paths[0]).data == paths[0]
    share.go.set()  # what was left comes back at last, and changes nothing
    assert not hangs_at(patience, b"/share/good.jpg")


def test_a_share_that_hangs_again_and_again_costs_a_bounded_number_of_threads(
    share: Share, patience: Patience, mounted: list[str]
) -> None:
    before = threading.active_count()
    for number in range(20):
        share.hanging = {b"/share/%d.jpg" % number}
        hangs_at(patience, b"/share/%d.jpg" % number)
        share.hanging = set()
        mounted.append(f"mount {number}")
        time.sleep(0.11)
        hangs_at(patience, b"/share/%d.jpg" % number)
        time.sleep(0.02)
    most = MOST_LEFT + 2 * MOST_STUCK + 2  # a few more until that is seen, and our own
    assert threading.active_count() - before <= most
    assert hangs_at(patience, b"/share/good.jpg"), "now it is waited for"
    share.go.set()
    until(lambda: not hangs_at(patience, b"/share/good.jpg"))


def test_what_is_mounted_somewhere_is_told_without_asking_it(tmp_path: Path) -> None:
    assert mount_of(tmp_path) == mount_of(tmp_path / "not there")
    if Path("/proc/self/mountinfo").exists():
        assert mount_of(Path("/proc/self")) not in (None, mount_of(tmp_path))
