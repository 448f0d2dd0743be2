"""The page: the station's species list."""

from __future__ import annotations

import json
from dataclasses import asdict

from fastapi import APIRouter, Request
from fastapi.responses import Response

from monitor.log.species import fold
from monitor.log.species_keys import FREE_LETTERS
from monitor.log.species_list import SpeciesRow
from monitor.web.context import Here
from monitor.web.people import Viewer
from monitor.web.rendering import page

router = APIRouter(include_in_schema=False)


@router.get("/species")
def species(request: Request, here: Here, who: Viewer) -> Response:
    """Every species with all its names; administrators change the list here."""
    rows = here.log.species()
    return page(
        request,
        "species.html",
        rows=[(row, json.dumps(asdict(row)), _other_names(row)) for row in rows],
        groups=sorted({row.group for row in rows if row.group}),
        free_letters=FREE_LETTERS,
    )


def _other_names(row: SpeciesRow) -> list[str]:
    """The names that stand in no other column."""
    told = {fold(name) for name in (row.scientific_name or "", *row.names.values())}
    return [name for name in row.aliases if name not in told]
