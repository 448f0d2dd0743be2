"""What may be asked of sightings and events in an address, and what it means."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from monitor.core.domain import MediaStatus, Source
from monitor.core.moments import moment_of
from monitor.log.browse import Cursor
from monitor.log.filters import BrowseFilter
from monitor.web.context import WebContext

MOST_ID = 2**63 - 1
"""SQLite has no larger numbers."""
Text = Annotated[str, Field(max_length=300)]
Id = Annotated[int, Field(ge=1, le=MOST_ID)]
Probability = Annotated[float, Field(ge=0, le=1)]
TIME = (
    "A day (2024-05-01), a time (2024-05-01T18:30, read where the station is) or an age (7d, 12h)"
)
NEXT = Field(description="Send it back as `cursor` for what follows; null at the end.")
REACHED = Field(
    description="All that was captured after this time (UTC) was looked at; null at the end. A "
    "page may be short, even empty, although more follows: a search ends after a set time, and "
    "goes on with `next`."
)


class Search(BaseModel):
    """What sightings and events are searched by. An empty value is as good as none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    species: Text | None = Field(None, description="Any name of a species of the list.")
    since: Text | None = Field(None, description=f"{TIME}.")
    until: Text | None = Field(None, description=f"{TIME}; a day counts whole.")
    deployment: Text | None = Field(None, description="Its name, exactly.")

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        """Forms send every field, filled in or not."""
        if isinstance(given, dict):
            return {name: value for name, value in given.items() if value != ""}
        return given

    def wanted(self, here: WebContext) -> BrowseFilter:
        """The filter. Raises NoMoment."""
        given = self.model_dump(exclude={"limit", "cursor"})
        zone, now = here.settings.station.zone, here.clock()
        given["since"] = moment_of(self.since, zone, now)
        given["until"] = moment_of(self.until, zone, now, end=True)
        return BrowseFilter(**given)


class SightingsSearch(Search):
    """Everything that sightings are searched by; all that is given must be fulfilled."""

    min_probability: Probability | None = Field(None, description="A label counts as certain.")
    max_probability: Probability | None = Field(None, description="A label counts as certain.")
    source: Source | None = Field(None, description="Who the species comes from.")
    status: MediaStatus | None = Field(None, description="Where the media stands.")
    model_version: Text | None = Field(None, description="Whose prediction is shown.")
    labelled_by: Text | None = Field(None, description="Who said the label that counts.")
    path: Text | None = Field(None, description="A part of the path, in any case of letters.")
    sha256: str | None = Field(
        None, description="How the SHA-256 begins.", pattern="^[0-9a-fA-F]{1,64}$"
    )
    event_id: Id | None = Field(None, description="The frames of one event.")
    media_id: Id | None = Field(None, description="One media.")
    unreviewed: bool = Field(False, description="Only what nobody labelled.")
    flagged: bool = Field(False, description="Only what is marked for a second look.")


class _Paged(BaseModel):
    limit: int = Field(100, ge=1, le=500, description="At most so many.")
    cursor: Annotated[str, Field(max_length=60)] | None = Field(
        None, description="`next` of the page before; leave it out for the first."
    )

    @property
    def after(self) -> Cursor | None:
        """The place to go on from. Raises BadCursor."""
        return Cursor.read(self.cursor) if self.cursor is not None else None


class SightingsPage(_Paged, SightingsSearch):
    """One page of sightings."""


class EventsPage(_Paged, Search):
    """One page of events."""


def text_of(cursor: Cursor | None) -> str | None:
    """A cursor as it is sent."""
    return str(cursor) if cursor is not None else None
