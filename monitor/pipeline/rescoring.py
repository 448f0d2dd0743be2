"""Past media, spoken of anew by the model that is live: from the feature cache, page by page.

While one page is written, a thread of its own finds, reads and scores the next, so that both cores
have work. A page grows and shrinks with what its writing takes: nobody else who writes to the log,
and no frame that comes, waits for it longer than a moment. What is left to do is read from the log
itself, so that a kill at any instant loses nothing.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache

import numpy as np
import numpy.typing as npt

from monitor.log.batch_predictions import Said
from monitor.log.features import FeatureStore
from monitor.log.predictions import PastMedia
from monitor.log.species_log import SpeciesLog
from monitor.model.head import Answers, Head, answers_of

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
FIRST_PAGE, LEAST_PAGE, MOST_PAGE = 500, 50, 4000
WRITE_SECONDS = 0.03
"""Pages are made so large that their writing takes about this long."""
WAIT_SECONDS = 0.05
"""No longer is a page waited for before frames that came get their turn."""
RESCORE_AGAIN = timedelta(hours=1)
"""So often past media are looked through once more: a label may have been withdrawn since."""
STATE_KEY = "rescoring"
STEPS = 100_000
"""Alternatives are kept with five digits after the point."""


@dataclass(frozen=True, slots=True, eq=False)
class Speaker:
    """Who speaks of past media: a live version's head, and the features it was trained on."""

    name: str
    head: Head
    features: FeatureStore


class Rescoring:
    """Lets the live model speak of past, unlabelled media.

    Args:
        read_files: features of media by SHA-256, from their files where the cache lacks them.
        unknown_below: see `classifier.answers`.
        clock: the present, in UTC.
    """

    def __init__(
        self,
        log: SpeciesLog,
        read_files: Callable[[Sequence[int]], dict[str, Floats]],
        unknown_below: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._log, self._read_files = log, read_files
        self._unknown_below, self._clock = unknown_below, clock
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="rescoring")
        self._own_log: SpeciesLog | None = None
        self._next: Future[_Page] | None = None
        self._speaker: Speaker | None = None
        self._past = _Past()
        self._size = FIRST_PAGE

    def step(
        self, speaker: Speaker | None, files_at_once: Callable[[], int], *, may_read_files: bool
    ) -> int:
        """One page: first of all media whose features are cached, then, when nothing else is to
        do, of those whose files must be read.

        Args:
            speaker: None while no model can be used.
            files_at_once: how many files to read for one page.

        Returns:
            how many media were brought on, at least 1 while there is something to do.
        """
        if not _are_same(speaker, self._speaker) or self._past.is_over(self._clock()):
            self._begin(speaker)
        past = self._past
        if speaker is None or past.done_at is not None or (past.reading and not may_read_files):
            return 0
        try:
            page = self._page(speaker, files_at_once() if past.reading else self._size)
            return self._go_on(speaker, page) if page is not None else 1
        except BaseException:
            self.let_go()  # what failed is found in the log again
            raise

    def let_go(self) -> None:
        """Wait until neither the log nor the features are read any more; begin anew afterwards."""
        if self._next is not None and not self._next.cancel():
            self._next.exception()
        self._next, self._speaker = None, None

    def close(self) -> None:
        """End the thread."""
        self.let_go()
        self._ahead.shutdown()
        if self._own_log is not None:
            self._own_log.close()

    def _begin(self, speaker: Speaker | None) -> None:
        self.let_go()
        self._speaker, self._past, self._size = speaker, _Past(), FIRST_PAGE

    def _page(self, speaker: Speaker, limit: int) -> _Page | None:
        """The page to write; None while it is still being read."""
        if self._next is None:
            self._look_ahead(speaker, limit)
        assert self._next is not None
        if not wait([self._next], WAIT_SECONDS).done:
            return None
        page, self._next = self._next.result(), None
        return page

    def _look_ahead(self, speaker: Speaker, limit: int) -> None:
        self._next = self._ahead.submit(self._read, speaker, limit, self._past)

    def _go_on(self, speaker: Speaker, page: _Page) -> int:
        past = self._past
        if page.found:
            self._past = replace(past, after=page.found[-1].media_id)
            (self._write_files if past.reading else self._write_cached)(speaker, page)
            return len(page.found)
        if not past.reading:
            self._past = _Past(reading=True)
            return 1
        logger.debug("all past media that could be read were scored by %s", speaker.name)
        self._past = replace(past, done_at=self._clock())
        self._tell(speaker)
        return 0

    def _write_cached(self, speaker: Speaker, page: _Page) -> None:
        self._look_ahead(speaker, self._size)
        begun = time.monotonic()
        self._record(speaker, page)
        self._size = next_size(len(page.found), self._size, time.monotonic() - begun)

    def _write_files(self, speaker: Speaker, page: _Page) -> None:
        self._tell(speaker)
        vectors = self._read_files([one.media_id for one in page.found])
        known = [one for one in page.found if one.sha256 in vectors]
        if known:
            rows = np.stack([vectors[one.sha256] for one in known])
            self._record(speaker, self._scored(speaker, page.found, known, rows))
        self._past = replace(self._past, left=self._past.left + len(page.found) - len(known))

    def _record(self, speaker: Speaker, page: _Page) -> None:
        if page.said is not None:
            self._log.rescore(speaker.name, page.said, page.before, self._clock())

    def _tell(self, speaker: Speaker) -> None:
        """Let the status know what the log's rows do not say."""
        over = self._past.done_at is not None
        facts = {"version": speaker.name, "reading_files": not over}
        facts["left"] = self._past.left if over else None
        if facts != self._log.state(STATE_KEY):
            self._log.put_state(STATE_KEY, facts, self._clock())

    def _read(self, speaker: Speaker, limit: int, past: _Past) -> _Page:
        """In the thread of its own: the next media, and what is said of those in the cache."""
        found = self._reader.to_rescore(speaker.name, limit, past.after)
        if past.reading or not found:
            return _Page(found)
        places, vectors = speaker.features.matrix([one.sha256 for one in found])
        known = [found[place] for place in places]
        return self._scored(speaker, found, known, vectors) if known else _Page(found)

    @property
    def _reader(self) -> SpeciesLog:
        """The log for the thread of its own, with connections of its own: those of the writer keep
        what they have in memory."""
        if self._own_log is None:
            self._own_log = SpeciesLog(self._log.path)
        return self._own_log

    def _scored(
        self,
        speaker: Speaker,
        found: Sequence[PastMedia],
        known: Sequence[PastMedia],
        vectors: Floats,
    ) -> _Page:
        head = speaker.head
        said = answers_of(head, vectors, self._unknown_below)
        ids = [one.media_id for one in known]
        return _Page(found, said_of(ids, said), [one.says for one in known])


def next_size(written: int, size: int, seconds: float) -> int:
    """How many media the next page should have, after `written` of `size` took `seconds`.

    It doubles at most, and never grows by a page that was not full.
    """
    fitting = int(written * WRITE_SECONDS / max(seconds, 1e-3))
    if fitting < size:
        return max(fitting, size // 2, LEAST_PAGE)
    return min(fitting, 2 * size, MOST_PAGE) if written >= size else size


def said_of(media_ids: Sequence[int], said: Answers) -> Said:
    """Answers about n media as the log takes them, without a loop for each of them."""
    used, species = np.unique(said.species, return_inverse=True)
    names, numbers = [json.dumps(name) for name in said.names], _numbers()
    columns: list[list[str]] = []
    steps = np.rint(said.values.astype(np.float64) * STEPS).astype(np.intp)
    for best, value in zip(said.best.T.tolist(), steps.T.tolist(), strict=True):
        columns += [[names[i] for i in best], [numbers[i] for i in value]]
    forms = [f"[{', '.join(['[%s, %s]'] * kept)}]" for kept in range(len(columns) // 2 + 1)]
    rows = zip(said.kept.tolist(), zip(*columns, strict=True), strict=True)
    return Said(
        names=[said.names[i] for i in used.tolist()],
        media_ids=media_ids,
        species=species.tolist(),
        probabilities=said.values[:, 0].tolist(),
        alternatives=[forms[kept] % row[: 2 * kept] for kept, row in rows],
    )


@cache
def _numbers() -> list[str]:
    """Every probability of five digits, as text: to look one up costs half of writing it."""
    return [repr(step / STEPS) for step in range(STEPS + 1)]


@dataclass(frozen=True, slots=True)
class _Page:
    """Media in turn, and what is said of those whose features were found, with what each of them
    is shown as."""

    found: Sequence[PastMedia]
    said: Said | None = None
    before: Sequence[int | None] = ()


@dataclass(frozen=True, slots=True)
class _Past:
    """How far the re-scoring is. `reading`: in its second round, over files; `left`: how many
    could not be read there."""

    after: int = 0
    reading: bool = False
    left: int = 0
    done_at: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """True when it was done so long ago that it should be done again."""
        return self.done_at is not None and abs(now - self.done_at) >= RESCORE_AGAIN


def _are_same(one: Speaker | None, other: Speaker | None) -> bool:
    if one is None or other is None:
        return one is other
    same_head = one.head is other.head and one.features is other.features
    return one.name == other.name and same_head
