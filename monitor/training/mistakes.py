"""The contact sheet: held-out frames on which a model was surest of a wrong answer.

It shows people where labels are missing, and now and then a label that is wrong. Frames of private
species are left out, for the sheet lies beside the model for good.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from monitor.core.config import Settings
from monitor.core.privacy import PrivateSpecies
from monitor.images.decode import DecodeRules, ImageRejected, shrink
from monitor.images.frame_reader import ReadFrame, frame_reader
from monitor.log.learning import LabelledMedia
from monitor.log.media import PendingMedia
from monitor.log.species_log import SpeciesLog
from monitor.report.charts.paper import INK, QUIET, plain
from monitor.training.comparison import Answers

MOST_FRAMES = 24
COLUMNS = 6
CELL = (200, 206)  # pixels, with three lines of words below a picture of 200 x 150
PICTURE = (192, 146)
LINE = 17
LETTERS = 26

Find = Callable[[Sequence[int]], Sequence[PendingMedia]]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One held-out frame, what the model answered, and how sure it was (0-1)."""

    media: LabelledMedia
    answered: str
    probability: float


def surest_mistakes(
    held_out: Sequence[LabelledMedia], answers: Answers, private: frozenset[str]
) -> Iterator[Mistake]:
    """The wrong answers, the surest first, one of each event.

    Args:
        held_out: n media, in the order of `answers`.
        private: species in lower case; a frame that was labelled or answered so is left out.
    """
    if answers.confidence is None:
        return
    events = set()
    for i in np.argsort(-answers.confidence, kind="stable").tolist():
        media, answered = held_out[i], str(answers.predicted[i])
        hidden = {media.species.casefold(), answered.casefold()} & private
        if answered != media.species and not hidden and media.event_id not in events:
            events.add(media.event_id)
            yield Mistake(media, answered, float(answers.confidence[i]))


def mistakes_sheet(
    held_out: Sequence[LabelledMedia], answers: Answers, log: SpeciesLog, settings: Settings
) -> bytes | None:
    """The contact sheet as PNG; None where nothing is wrong, or no picture of it can be read."""
    private = PrivateSpecies(settings.web.private_species, log.called_today).names()
    classifier = settings.classifier
    rules = DecodeRules(classifier.max_pixels, classifier.accept_truncated)
    read = frame_reader(tuple(settings.watch.folders)).read
    found = (
        (mistake, picture)
        for mistake in surest_mistakes(held_out, answers, private)
        if (picture := _picture(mistake.media, log.find_media, rules, read))
    )
    shown = list(islice(found, MOST_FRAMES))
    return sheet(shown) if shown else None


def _picture(
    media: LabelledMedia, find: Find, rules: DecodeRules, read: ReadFrame
) -> Image.Image | None:
    for known in find([media.media_id]):
        if (data := read(known.paths, known.sha256)) is not None:
            try:
                return shrink(data, rules, max(PICTURE))
            except ImageRejected:
                return None
    return None


def sheet(shown: Sequence[tuple[Mistake, Image.Image]]) -> bytes:
    """Mistakes with their pictures, as one PNG.

    Args:
        shown: at least one.
    """
    columns, rows = min(COLUMNS, len(shown)), -(-len(shown) // COLUMNS)
    page = Image.new("RGB", (columns * CELL[0], rows * CELL[1]), "white")
    draw, font = ImageDraw.Draw(page), _font()
    for number, (mistake, picture) in enumerate(shown):
        x, y = number % COLUMNS * CELL[0], number // COLUMNS * CELL[1]
        small = picture.copy()
        small.thumbnail(PICTURE)
        left, top = x + (CELL[0] - small.width) // 2, y + 4 + (PICTURE[1] - small.height) // 2
        page.paste(small, (left, top))
        for line, (words, colour) in enumerate(_words(mistake)):
            at = (x + 5, y + PICTURE[1] + 6 + line * LINE)
            draw.text(at, plain(words, LETTERS), font=font, fill=colour)
    stream = io.BytesIO()
    page.quantize(256).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _words(mistake: Mistake) -> tuple[tuple[str, str], ...]:
    return (
        (f"✗ {mistake.answered} {mistake.probability:.0%}", "#A33B00"),
        (f"✓ {mistake.media.species}", INK),
        (f"{mistake.media.media_id} · {mistake.media.deployment}", QUIET),
    )


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The letters of the plots; Pillow's own know fewer."""
    from matplotlib import get_data_path

    try:
        return ImageFont.truetype(str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 13)
    except OSError:
        return ImageFont.load_default()
