"""When the log was last written to, by the station's clock."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text

from monitor.core.domain import parse_iso_utc
from monitor.log.connection import LogPart

LOOKED_AT = 500
"""So many of the newest rows are looked at: one that was written while the clock ran ahead is
forgotten once so many others came."""

_NEWEST = text("""
SELECT max(at) FROM (
    SELECT max(taken_in_at) AS at FROM media WHERE id > (SELECT max(id) FROM media) - :most
    UNION ALL SELECT max(at) FROM act WHERE id > (SELECT max(id) FROM act) - :most
    UNION ALL SELECT max(started_at) FROM training_run
        WHERE id > (SELECT max(id) FROM training_run) - :most
)
""")


class WrittenQueries(LogPart):
    """The clock as the log remembers it."""

    def newest_written_at(self) -> datetime | None:
        """The newest time at which a media, an act or a training was lately written down."""
        with self._read() as connection:
            found = connection.execute(_NEWEST, {"most": LOOKED_AT}).scalar()
        return parse_iso_utc(found) if found is not None else None
