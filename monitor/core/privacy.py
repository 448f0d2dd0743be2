"""Which frames are hidden whole: people and vehicles are not what the cameras are for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from monitor.core.domain import Sighting, Source


class PrivateSpecies:
    """The species whose frames are hidden from viewers, exports and reports.

    Args:
        names: as in `web.private_species`.
        called_today: the names that any name of a species stands for today (after renames and
            merges); empty for a name that nobody uses.
    """

    def __init__(
        self, names: Iterable[str], called_today: Callable[[str], Collection[str]]
    ) -> None:
        self._names = tuple(names)
        self._called_today = called_today

    def names(self) -> frozenset[str]:
        """What private species are called in sightings, in lower case."""
        found = {name.casefold() for name in self._names}
        for name in self._names:
            found |= {today.casefold() for today in self._called_today(name)}
        return frozenset(found)


def hides(sighting: Sighting, private: frozenset[str]) -> bool:
    """True if the frame shows a private species by the best statement there is.

    A label counts with all its observations; a prediction counts while nobody labelled the frame.

    Args:
        private: `PrivateSpecies.names()`.
    """
    if sighting.source is Source.LABEL:
        said = {o.species for o in sighting.observations}
    else:
        said = {sighting.species} if sighting.species else set()
    return any(name.casefold() in private for name in said)


def hides_from_viewers(sighting: Sighting, private: frozenset[str]) -> bool:
    """The same for people without the right to review: what nobody and no model has looked at
    yet may show anything, and is hidden from them too."""
    return sighting.source is Source.NONE or hides(sighting, private)
