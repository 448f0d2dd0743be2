"""Model cards as pages show them: figures, species, what was taken for what, two side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from monitor.core.domain import TrapwatchError
from monitor.log.species_log import SpeciesLog
from monitor.training.evaluate import Evaluation, Share, SpeciesFigures
from monitor.web.station_words import share

SAME_POINTS = 0.5
"""Shares that differ by less than half a percentage point are the same to a reader."""
SAME_NUMBER = 0.0005
SHADES = 5


class CardUnreadable(TrapwatchError):
    """A model card is JSON, but not what this program writes; the message names the version."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """One species that a version knows: what it learnt from, and how it did on held-out frames."""

    species: str
    labels: int
    events: int
    figures: SpeciesFigures


@dataclass(frozen=True, slots=True)
class Card:
    """A model card, read. `tree` is the whole of it."""

    tree: dict[str, Any]
    held_out: Evaluation
    champion: tuple[str, Evaluation] | None
    learnt: tuple[Learnt, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of two versions. `verdict` is better, worse, same or unknown (of the second)."""

    what: str
    a: str
    b: str
    verdict: str
    words: str


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture beside a card: the file to show, and another form of it, if there is one."""

    file: str
    title: str
    alt: str
    other: str | None


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a confusion matrix. `shade` is 0-5, its share of the row; `right`: diagonal."""

    count: int
    shade: int
    right: bool


def read_card(name: str, tree: dict[str, Any]) -> Card:
    """Take a card apart.

    Raises:
        CardUnreadable: something in it is missing or of another kind.
    """
    try:
        held_out = Evaluation.from_json(tree["held_out"])
        champion = tree["champion"]
        figures = {row.species: row for row in held_out.species}
        learnt = tuple(
            Learnt(s, int(tree["labels"][s]), int(tree["label_events"][s]), figures[s])
            for s in tree["classes"]
        )
        against = (
            (str(champion["version"]), Evaluation.from_json(champion["held_out"]))
            if champion
            else None
        )
        return Card(tree, held_out, against, learnt)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CardUnreadable(
            f"the model card of {name} is not as trapwatch writes it ({error!r}); restore its "
            "directory from a backup"
        ) from error


def pictures(files: Sequence[str], tree: dict[str, Any]) -> list[Picture]:
    """The pictures of a version, in the order of its card; SVG before PNG of the same name.

    Args:
        files: names of those that may be shown.
        tree: the card, which names some of them; those it does not know come last.
    """
    told = {str(p["name"]): p for p in tree.get("pictures", ())}
    by_name: dict[str, list[str]] = {name: [] for name in told}
    for file in sorted(files, reverse=True):
        by_name.setdefault(file.rpartition(".")[0], []).append(file)
    return [
        Picture(
            some[0],
            str(told.get(name, {}).get("title") or name.replace("_", " ")),
            str(told.get(name, {}).get("alt") or f"Plot {name}"),
            some[1] if len(some) > 1 else None,
        )
        for name, some in by_name.items()
        if some
    ]


def confusion_rows(held_out: Evaluation) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """The matrix without species that neither side named: names, and a row of cells for each."""
    matrix = held_out.confusion
    used = [i for i in range(len(held_out.names)) if any(matrix[i]) or any(r[i] for r in matrix)]
    rows = [
        (
            held_out.names[i],
            [Cell(matrix[i][j], _shade(matrix[i][j], sum(matrix[i])), i == j) for j in used],
        )
        for i in used
    ]
    return [held_out.names[i] for i in used], rows


def _shade(count: int, of: int) -> int:
    return max(1, round(SHADES * count / of)) if count else 0


def judged_alike(a: tuple[str, Card], b: tuple[str, Card]) -> tuple[Evaluation, Evaluation, bool]:
    """The figures to compare two versions by, and whether both are of the same frames: they are
    where one was the live model that the other had to beat."""
    (a_name, a_card), (b_name, b_card) = a, b
    if b_card.champion and b_card.champion[0] == a_name:
        return b_card.champion[1], b_card.held_out, True
    if a_card.champion and a_card.champion[0] == b_name:
        return a_card.held_out, a_card.champion[1], True
    return a_card.held_out, b_card.held_out, False


def overall(a: Evaluation, b: Evaluation) -> list[Difference]:
    """The figures of the whole, second against first."""
    return [
        by_share("mean recall per species", a.macro_recall, b.macro_recall),
        by_share("right on all frames", a.accuracy, b.accuracy),
        *_where_known("right on all events", a.event_accuracy, b.event_accuracy),
        *_fewer("false alarms on blanks", a.false_alarms, b.false_alarms),
        *_fewer("animals called blank", a.missed, b.missed),
        _by_number("negative log-likelihood (lower is better)", a.nll, b.nll),
        _by_number("calibration error (lower is better)", a.ece, b.ece),
    ]


def _where_known(what: str, a: float | None, b: float | None) -> list[Difference]:
    """Nothing where the cards of both are of before this was measured."""
    return [] if a is None and b is None else [by_share(what, a, b)]


def _fewer(what: str, a: Share | None, b: Share | None) -> list[Difference]:
    """The same of a share of which less is better."""
    first, second = (one.share if one else None for one in (a, b))
    turned = {"better": "worse", "worse": "better"}
    return [
        replace(
            one,
            verdict=turned.get(one.verdict, one.verdict),
            words=one.words.replace(one.verdict, turned.get(one.verdict, one.verdict)),
        )
        for one in _where_known(what, first, second)
    ]


def by_species(
    a: Evaluation, b: Evaluation, value: Callable[[SpeciesFigures], float | None]
) -> list[Difference]:
    """One figure of every species that either version was judged on."""
    of_a = {row.species: value(row) for row in a.species}
    of_b = {row.species: value(row) for row in b.species}
    names = sorted({*of_a, *of_b})
    return [by_share(name, of_a.get(name), of_b.get(name)) for name in names]


def by_share(what: str, a: float | None, b: float | None) -> Difference:
    """Two shares, compared in percentage points."""
    if a is None or b is None:
        return Difference(what, share(a), share(b), "unknown", "cannot be compared")
    points = (b - a) * 100
    if abs(points) < SAME_POINTS:
        return Difference(what, share(a), share(b), "same", "the same")
    verdict = "better" if points > 0 else "worse"
    count = round(abs(points))
    words = f"{count} {'point' if count == 1 else 'points'} {verdict}"
    return Difference(what, share(a), share(b), verdict, words)


def _by_number(what: str, a: float | None, b: float | None) -> Difference:
    """Two numbers of which the lower is the better."""
    first, second = ("–" if value is None else f"{value:.3f}" for value in (a, b))
    if a is None or b is None:
        return Difference(what, first, second, "unknown", "cannot be compared")
    if abs(b - a) < SAME_NUMBER:
        return Difference(what, first, second, "same", "the same")
    verdict = "better" if b < a else "worse"
    return Difference(what, first, second, verdict, f"{abs(b - a):.3f} {verdict}")


def rolls_back_to(log: SpeciesLog) -> tuple[str, str] | None:
    """(the live version, the one that a roll-back brings back); None if there is none."""
    live = log.live_version()
    earlier = log.earlier_versions(live.name) if live is not None else []
    return (live.name, earlier[0].name) if live is not None and earlier else None
