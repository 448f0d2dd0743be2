"""What all tables of the species log have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """Parent of every table."""

    type_annotation_map: ClassVar = {dict[str, Any]: JSON, list[Any]: JSON}
