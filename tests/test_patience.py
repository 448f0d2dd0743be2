"""Reads with a limit of time: what hangs is left alone, what comes back late is noticed."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitor.folders.patience import MOST_STUCK, Hangs, Patience
from monitor.images.reading import Content, read_content

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
    asked = len(share.asked)
    with pytest.raises(Hangs, match="/share does not answer"):
        patience.read(b"/share/a.jpg")
    assert len(share.asked) == asked, "it is not asked for twice"


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
