"""/api/v1: model versions, as `trapwatch models … --json`; promoting and rolling back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException
from fastapi.responses import Response
from pydantic import BaseModel, Field

from monitor.core.domain import How, ModelState
from monitor.log.engine import LogError
from monitor.log.versions import VersionRow
from monitor.model.versions import MISTAKES_FILE, PLOT_NAME, ModelDamaged, ModelError, ModelStore
from monitor.web.context import Here, WebContext
from monitor.web.people import Admin, Role, Viewer, Visitor, name_of, needs

router = APIRouter(tags=["models"])

TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""An SVG is a document: opened by itself it may run nothing and load nothing."""


class Version(BaseModel):
    """One model version, as the log knows it."""

    id: int
    name: str
    state: ModelState
    created_at: str
    went_live_at: str | None
    backbone: str
    layout: str
    weights_sha256: str
    reason: str
    figures: dict[str, Any]


class VersionWithCard(Version):
    """One model version with its model card."""

    card: dict[str, Any]


class Live(BaseModel):
    """Which version is live now."""

    live: str


class Seen(BaseModel):
    """What the sender saw."""

    live: str | None = Field(None, description="The version that was live; another one is a 409.")


SeenLive = Annotated[Seen | None, Body()]


@router.get("/models")
def versions(here: Here, who: Viewer) -> list[Version]:
    """Every version, newest first, with its state and why."""
    return [Version(**asdict(row)) for row in here.log.versions()]


@router.get("/models/{version}")
def show(version: str, here: Here, who: Viewer) -> VersionWithCard:
    """One version and its model card."""
    row = version_row(here, version)
    with _damage_told():
        return VersionWithCard(**asdict(row), card=here.store.card(version))


@router.get(
    "/models/{version}/plots/{file}",
    response_class=Response,
    responses={200: {"content": {"image/svg+xml": {}, "image/png": {}}}},
)
def plot(version: str, file: str, here: Here, who: Viewer) -> Response:
    """A plot that was published with the version; the sheet of mistakes, which shows frames, only
    to reviewers."""
    version_row(here, version)
    if not may_see(file, who):
        raise HTTPException(403, needs(Role.REVIEWER))
    if file not in plots_of(here.store, version):
        raise HTTPException(404, f"{version} has no plot '{file}'")
    path = here.store.path(version) / file
    headers = {
        "Content-Security-Policy": SANDBOX,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, max-age=31536000, immutable",  # what is published never changes
    }
    try:
        return Response(path.read_bytes(), media_type=TYPES[path.suffix], headers=headers)
    except OSError as error:
        raise HTTPException(409, f"{path} cannot be read: {error.strerror}") from None


@router.post("/models/rollback")
def roll_back(here: Here, who: Admin, seen: SeenLive = None) -> Live:
    """Bring back the version that was live before; the present one counts as rejected."""
    by = name_of(who)
    _must_still_be_live(here, seen)
    with _damage_told():
        try:
            name = here.log.roll_back(
                by,
                here.clock(),
                usable=lambda row: here.store.load(row.name, row.weights_sha256),
                how=How.WEB,
            )
        except LogError as error:
            raise HTTPException(409, str(error)) from None
    return Live(live=name)


@router.post("/models/{version}/promote")
def promote(version: str, here: Here, who: Admin, seen: SeenLive = None) -> Live:
    """Make a version live because a person says so, whatever the gate said. Asked twice, it is
    done once."""
    by = name_of(who)
    row = version_row(here, version)
    if row.state is not ModelState.LIVE:
        _must_still_be_live(here, seen)
        with _damage_told():
            here.store.load(version, row.weights_sha256)
        here.log.go_live(version, f"promoted by {by}", by, here.clock(), how=How.WEB)
    return Live(live=version)


def version_row(here: WebContext, name: str) -> VersionRow:
    """One version. Raises HTTPException 404 if there is none of that name."""
    try:
        return here.log.version(name)
    except LogError as error:
        raise HTTPException(404, str(error)) from None


def may_see(plot: str, who: Visitor) -> bool:
    """Whether somebody may see a plot: a sheet of frames stays as it was made, whatever people
    say of one of them later, and so it is not for everybody."""
    return plot != MISTAKES_FILE or who.role >= Role.REVIEWER


def plots_of(store: ModelStore, version: str) -> list[str]:
    """The plots that were published with a version: names that are safe in an address."""
    try:
        files = list(store.path(version).iterdir())
    except (OSError, ModelError):
        return []
    return sorted(path.name for path in files if _is_plot(path))


def _is_plot(path: Path) -> bool:
    return bool(PLOT_NAME.fullmatch(path.name)) and path.is_file() and not path.is_symlink()


def _must_still_be_live(here: WebContext, seen: Seen | None) -> None:
    """A second click, or somebody else's in the meantime, must not take one more step."""
    live = here.log.live_version()
    if seen and seen.live and (live is None or live.name != seen.live):
        now = f"{live.name} is live now" if live else "no model is live now"
        raise HTTPException(409, f"{seen.live} is not live any more: {now}; look again")


@contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except (ModelDamaged, ModelError) as error:
        raise HTTPException(409, str(error)) from None
