"""Telling systemd how it stands (sd_notify(3)); does nothing where no systemd asked for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

SEND_SECONDS = 1.0
"""A systemd that is too busy to listen must not stop the service."""


def notify(message: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send `message` (such as "READY=1") to systemd. True if it could be sent."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(SEND_SECONDS)
            sock.connect(address)
            sock.sendall(message.encode())
    except OSError:
        return False
    return True


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often systemd wants to hear WATCHDOG=1, or None."""
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isdigit() and int(text) > 0 else None
