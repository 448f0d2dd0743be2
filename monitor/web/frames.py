"""Frames as the API tells of them: what somebody may see, with all that reviewing needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from monitor.core.domain import MediaStatus, Sighting, Source
from monitor.log.label_errors import MOST_SUSPECTS, Suspect
from monitor.log.reviewing import disagree
from monitor.web.context import WebContext
from monitor.web.people import Role, Visitor
from monitor.web.picture_access import is_hidden


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class ObservationModel(_Value):
    """One species in a label; null: nothing was said of it."""

    species: str
    count: int | None
    sex: str | None
    life_stage: str | None
    behaviour: str | None


class FrameModel(_Value):
    """The best statement about one media, as in `trapwatch sightings --json`, and three marks."""

    media_id: int
    path: Annotated[str, Field(description="Empty where the frame is hidden from you.")]
    sha256: str
    captured_at: Annotated[str, Field(description="ISO 8601, UTC.")]
    captured_local: Annotated[str, Field(description="ISO 8601, wall clock at the camera.")]
    deployment: str
    species: str | None
    probability: Annotated[float | None, Field(description="Of a prediction; null for a label.")]
    source: Source
    model_version: str | None
    labelled_by: str | None
    event_id: int | None
    status: MediaStatus
    rejected_reason: str | None
    novelty: float | None
    box: tuple[float, float, float, float] | None
    alternatives: tuple[tuple[str, float], ...]
    observations: tuple[ObservationModel, ...]
    species_set: Annotated[
        tuple[str, ...] | None,
        Field(description="What it may show, as sure as the model promises; null where none does."),
    ]
    flagged: Annotated[bool, Field(description="Marked for a second look.")]
    hidden: Annotated[bool, Field(description="Its picture is not shown unless it is revealed.")]
    revealed: Annotated[bool, Field(description="Hidden, but shown to you for an hour.")]


class StripFrame(_Value):
    """One frame of the film strip."""

    media_id: int
    captured_local: str
    species: str | None
    source: Source
    probability: float | None
    hidden: Annotated[bool, Field(description="Its picture is not shown to you, now.")]
    flagged: bool


class StatementModel(_Value):
    """What one person said last of a media."""

    by: str
    at: Annotated[str, Field(description="ISO 8601, UTC.")]
    species: tuple[str, ...]


class DoubtModel(_Value):
    """Why a label looks wrong: what a training that had not learnt from it would have said."""

    label: str
    suggested: str
    probability: float
    version: str


class FrameDetail(FrameModel):
    """A frame with its event and what people said of it."""

    film: Annotated[
        tuple[StripFrame, ...],
        Field(description="Of its event, oldest first; at most 60 around it."),
    ]
    statements: Annotated[tuple[StatementModel, ...], Field(description="The newest first.")]
    disagreement: Annotated[bool, Field(description="People's last words differ.")]
    doubt: Annotated[DoubtModel | None, Field(description="Null unless its label looks wrong.")]
    dimensions: Annotated[
        tuple[int, int] | None, Field(description="Width and height, upright; null if unknown.")
    ]


def frames_of(here: WebContext, who: Visitor, media_ids: Sequence[int]) -> list[FrameModel]:
    """These media as `who` may see them, in the order given; unknown ones are left out."""
    return [FrameModel.model_validate(values) for values in _Seen(here, who, media_ids).all()]


def details_of(here: WebContext, who: Visitor, media_ids: Sequence[int]) -> list[FrameDetail]:
    """The same with film strip, statements and dimensions: one round of queries for all."""
    films = here.log.films(media_ids)
    in_films = (media_id for film in films.values() for media_id in film)
    seen = _Seen(here, who, tuple(dict.fromkeys((*media_ids, *in_films))))
    statements = here.log.statements(media_ids)
    dimensions = here.log.dimensions(media_ids)
    doubts = _doubts(here, seen, media_ids)
    details = []
    for media_id in media_ids:
        if media_id not in seen.sightings:
            continue
        said = statements.get(media_id, [])
        more = {
            "film": tuple(seen.strip(frame) for frame in films[media_id]),
            "statements": tuple(said),
            "disagreement": disagree(said),
            "doubt": doubts.get(media_id),
            "dimensions": dimensions.get(media_id),
        }
        details.append(FrameDetail.model_validate(seen.values(media_id) | more))
    return details


def _doubts(here: WebContext, seen: _Seen, media_ids: Sequence[int]) -> dict[int, Suspect]:
    """Those of these media whose label looks wrong; mostly none is labelled, and none asked for."""
    labelled = [m for m in media_ids if seen.is_labelled(m)]
    found = here.log.suspects(MOST_SUSPECTS) if labelled else []
    return {one.media_id: one for one in found}


class _Seen:
    """Some sightings, and how `who` sees them."""

    def __init__(self, here: WebContext, who: Visitor, media_ids: Sequence[int]) -> None:
        self._here, self._who = here, who
        self._private = here.private.names()
        self._flagged = set(here.log.flagged(media_ids, limit=len(media_ids)))
        self.sightings = {s.media_id: s for s in here.log.sightings_of(media_ids)}

    def is_labelled(self, media_id: int) -> bool:
        """Whether a person said what is in it."""
        sighting = self.sightings.get(media_id)
        return sighting is not None and sighting.source is Source.LABEL

    def all(self) -> list[dict[str, object]]:
        """The values of every frame."""
        return [self.values(media_id) for media_id in self.sightings]

    def values(self, media_id: int) -> dict[str, object]:
        """The values of a frame."""
        sighting = self.sightings[media_id]
        hidden, revealed = self._marks(sighting)
        shown = asdict(sighting)
        if hidden and not revealed:
            shown["path"] = ""
        marks = {"flagged": media_id in self._flagged, "hidden": hidden, "revealed": revealed}
        return shown | marks

    def strip(self, media_id: int) -> StripFrame:
        """A frame of a film strip."""
        sighting = self.sightings[media_id]
        hidden, revealed = self._marks(sighting)
        return StripFrame(
            media_id=media_id,
            captured_local=sighting.captured_local,
            species=sighting.species,
            source=sighting.source,
            probability=sighting.probability,
            hidden=hidden and not revealed,
            flagged=media_id in self._flagged,
        )

    def _marks(self, sighting: Sighting) -> tuple[bool, bool]:
        """(hidden, revealed)."""
        hidden = is_hidden(sighting, self._who, self._private)
        may = hidden and self._who.role >= Role.REVIEWER
        revealed = may and self._here.reveals.is_revealed(self._who.session, sighting.media_id)
        return hidden, revealed
