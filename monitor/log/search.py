"""Which species a few typed letters may mean. No SQL: names in, ranks out."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping, Sequence

from monitor.log.species import fold

CLOSE = 0.7
"""difflib ratio from which a name may be what was meant."""
SHORTEST_CLOSE = 3
"""Letters from which a slip of the finger is looked for."""
ENOUGH = 8
"""With so many that hold what was typed, nobody needs those that are only close."""


def best_matches(wanted: str, names: Mapping[int, Sequence[str]]) -> dict[int, int]:
    """Rank the species of which a name fits, 0 the best: the whole name, the start of any word of
    the name the list uses, of any other name, any part of a name, or a name nearly like it.

    Accents do not matter.

    Args:
        names: species id -> its folded names, the one the list uses first.
    """
    typed = _bare(fold(wanted))
    if not typed:
        return {}
    bare = {species: tuple(_bare(name) for name in all_of) for species, all_of in names.items()}
    found = {}
    for species, all_of in bare.items():
        rank = _rank(typed, all_of)
        if rank is not None:
            found[species] = rank
    if len(found) < ENOUGH and len(typed) >= SHORTEST_CLOSE:
        for species in _close(typed, bare):
            found.setdefault(species, 4)
    return found


def _rank(typed: str, names: Sequence[str]) -> int | None:
    if typed in names:
        return 0
    for place, name in enumerate(names):
        if f" {typed}" in f" {name}":
            return 1 if place == 0 else 2
    return 3 if any(typed in name for name in names) else None


def _close(typed: str, names: Mapping[int, Sequence[str]]) -> list[int]:
    """Species of which a name, or a word of one, is nearly what was typed; the nearest first."""
    owners: dict[str, list[int]] = {}
    for species, all_of in names.items():
        for text in {word for name in all_of for word in (name, *name.split())}:
            owners.setdefault(text, []).append(species)
    # a ratio of CLOSE needs lengths within this factor: most names need no comparing
    near = [t for t in owners if CLOSE / (2 - CLOSE) <= len(t) / len(typed) <= (2 - CLOSE) / CLOSE]
    close = difflib.get_close_matches(typed, near, n=ENOUGH, cutoff=CLOSE)
    return [species for text in close for species in owners[text]]


def _bare(name: str) -> str:
    """Without accents: 'javali' finds 'javalí'."""
    if name.isascii():
        return name
    parts = unicodedata.normalize("NFD", name)
    return "".join(c for c in parts if not unicodedata.combining(c))
