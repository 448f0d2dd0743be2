"""Templates: every value is escaped, every page knows who looks at it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
STATIC = HERE / "static"
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@cache
def fingerprint() -> str:
    """Changes whenever any of the static files does: they may be cached for good."""
    digest = hashlib.sha256()
    for file in sorted(STATIC.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def page(request: Request, template: str, **values: Any) -> HTMLResponse:
    """Render a page. Every template sees `here` (path), `visitor` (or None) and `static`."""
    shown = _ENVIRONMENT.get_template(template).render(
        here=request.url.path,
        visitor=getattr(request.state, "visitor", None),
        static=f"/static/{fingerprint()}",
        **values,
    )
    return HTMLResponse(shown)
