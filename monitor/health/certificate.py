"""Until when the certificate of the pages is good: on a station of its own nobody renews it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from monitor.health.findings import Finding, Level

TOLD_BEFORE = timedelta(days=30)


def ends_at(certificate: Path | None) -> datetime | None:
    """When the first certificate of a PEM file ends; None: there is none, or it cannot be told."""
    if certificate is None:
        return None
    with suppress(OSError, ValueError, KeyError, AttributeError):  # ssl.SSLError is an OSError
        read = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]
        return datetime.fromtimestamp(
            ssl.cert_time_to_seconds(read(str(certificate))["notAfter"]), UTC
        )
    return None


def running_out(ends: datetime | None, now: datetime) -> Iterator[Finding]:
    """What to say of a certificate that ends soon, or has ended."""
    if ends is None or ends - now > TOLD_BEFORE:
        return
    day = f"{ends:%Y-%m-%d}"
    words = f"the certificate of the pages ends on {day}"
    if ends <= now:
        words = f"the certificate of the pages ended on {day}: browsers warn of them"
    advice = "put a new one in its place (web.certificate, web.key); systemctl reload trapwatch"
    yield Finding("certificate", Level.DEGRADED, words, advice)
