"""Who may see which picture: every route that shows one asks here."""

from __future__ import annotations

from fastapi import HTTPException

from monitor.core.domain import MediaStatus, Sighting
from monitor.core.privacy import hides, hides_from_viewers
from monitor.web.context import WebContext
from monitor.web.people import Role, Visitor


def is_hidden(sighting: Sighting, visitor: Visitor, private: frozenset[str]) -> bool:
    """True if the frame is hidden from somebody of this role until it is revealed.

    Args:
        private: `PrivateSpecies.names()`.
    """
    if visitor.role >= Role.REVIEWER:
        return hides(sighting, private)
    return hides_from_viewers(sighting, private)


def sighting_of(media_id: int, here: WebContext) -> Sighting:
    """The sighting of a media that has a picture.

    Raises:
        HTTPException: 404, there is no such media or its file was rejected as no picture.
    """
    found = here.log.sightings_of([media_id])
    if not found:
        raise HTTPException(404, f"there is no media {media_id}")
    if found[0].status is MediaStatus.REJECTED:
        raise HTTPException(404, f"media {media_id} was rejected: {found[0].rejected_reason}")
    return found[0]


def shown(media_id: int, visitor: Visitor, here: WebContext) -> tuple[Sighting, bool]:
    """The sighting of a media whose picture this visitor may see, and whether it is a hidden one
    (that no browser should keep).

    Raises:
        HTTPException: 404 as `sighting_of`; 403, it is hidden, with what to do.
    """
    sighting = sighting_of(media_id, here)
    if not is_hidden(sighting, visitor, here.private.names()):
        return sighting, False
    if visitor.role < Role.REVIEWER:
        raise HTTPException(
            403,
            f"media {media_id} is hidden: it may show people, or nobody has looked at it yet; "
            "reviewers can see it",
        )
    if not here.reveals.is_revealed(visitor.session, media_id):
        raise HTTPException(
            403,
            f"media {media_id} is hidden: it shows people, vehicles or what else is listed in "
            "web.private_species; have it shown first (this is recorded): POST /api/v1/reveals",
        )
    return sighting, True
