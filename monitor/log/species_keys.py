"""Keys that name species while reviewing: one letter, nobody else's, not the review page's own."""

from __future__ import annotations

import string
import unicodedata

from sqlalchemy import Connection, select

from monitor.log.engine import LogError
from monitor.log.tables import Species

TAKEN_KEYS = frozenset("burzgfehslvow" + string.digits)
"""What the review page itself uses: blank, undo, zoom …, and the digits for its choices."""
FREE_LETTERS = ", ".join(sorted(set(string.ascii_lowercase) - TAKEN_KEYS))


def claim_key(connection: Connection, text: str, species_id: int) -> str:
    """The key as it is kept (lower case), now free for this species.

    Raises:
        LogError: it is no letter, the review page's own, or another species'.
    """
    key = unicodedata.normalize("NFC", text).strip().lower()
    if key in TAKEN_KEYS:
        raise LogError(f"the key '{key}' is the review page's own; take one of {FREE_LETTERS}")
    if len(key) != 1 or not key.isalpha():
        raise LogError(f"the key '{text[:20]}' is not one letter; take one of {FREE_LETTERS}")
    owner = connection.execute(
        select(Species.name).where(
            Species.hotkey == key, Species.merged_into.is_(None), Species.id != species_id
        )
    ).scalar()
    if owner is not None:
        raise LogError(f"the key '{key}' is that of '{owner}' already; give that another one first")
    return key
