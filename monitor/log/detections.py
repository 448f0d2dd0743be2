"""Independent detections of the whole log: what charts are drawn from."""

from __future__ import annotations

from monitor.log.connection import LogPart


class DetectionQueries(LogPart):
    """One scan over everything."""

    def detections(self) -> None:
        """Filled by the charts."""
