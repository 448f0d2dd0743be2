"""Whom the station tells what. The addresses are secrets: they never appear in any output."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr

from monitor.core.config.station import LocalPath, Section
from monitor.core.config.values import absolute

Kind = Literal["species", "silent", "station", "training", "model", "restored", "channel"]
"""What alerts are about."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://\S", re.ASCII | re.IGNORECASE)
_NAME = re.compile(r"[\w.-]{1,40}", re.ASCII)


def scheme_of(url: str) -> str:
    """`mailto` of mailto://…; empty where there is none."""
    found = _SCHEME.match(url)
    return found.group(1).lower() if found else ""


def named(value: Any) -> Any:
    """A list of addresses as name -> address; they are called by what they are, as `mailto-1`.

    Raises:
        ValueError: a name or an address cannot be one. The address is not repeated.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple):
        if not all(isinstance(url, str) for url in value):
            raise ValueError("each address must be text, like 'mailto://user:password@example.org'")
        value = {f"{scheme_of(url)}-{n}": url for n, url in enumerate(value, 1)}
    if not isinstance(value, dict):
        raise ValueError("write NAME: ADDRESS for each channel")
    for number, (name, url) in enumerate(value.items(), 1):
        text = url.get_secret_value() if isinstance(url, SecretStr) else url
        if not isinstance(text, str) or not scheme_of(text):
            raise ValueError(
                f"address {number} is none that Apprise knows; they look like "
                "mailto://user:password@example.org or tgram://token/chat"
            )
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(
                f"the name of address {number} may have letters, digits, '-', '_', '.'"
            )
    return value


class Alerts(Section):
    """Over which channels the station tells people, and what."""

    urls: Annotated[dict[str, SecretStr], BeforeValidator(named)] = {}
    urls_file: LocalPath | None = None
    species: tuple[str, ...] = ()
    min_probability: float = Field(0.8, ge=0, le=1)
    first_in_days: float = Field(30.0, ge=0, le=3660)
    cool_down_minutes: float = Field(60.0, ge=0, le=366 * 24 * 60)
    fresh_hours: float = Field(24.0, gt=0, le=366 * 24)
    pictures: bool = True
    leave_out: tuple[Kind, ...] = ()

    @property
    def is_on(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self.urls) or self.urls_file is not None

    @property
    def cool_down(self) -> timedelta:
        """So long the same is not told again."""
        return timedelta(minutes=self.cool_down_minutes)

    def at(self, base: Path) -> Alerts:
        """The same with an absolute path, seen from the folder of the config file; one that
        begins with a variable of the environment is absolute once that is filled in."""
        if self.urls_file is None or str(self.urls_file).startswith("$"):
            return self
        return self.model_copy(update={"urls_file": absolute(base, self.urls_file)})
