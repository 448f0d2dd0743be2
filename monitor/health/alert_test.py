"""Whether every channel works, found out by sending something over it."""

from __future__ import annotations

import threading
import time

from pydantic import SecretStr

from monitor.core.config import Settings
from monitor.health.alert_channels import Channels
from monitor.health.alert_sending import Message, NotSent, send

WAIT_SECONDS = 90.0


def try_all(
    settings: Settings, channels: Channels, wait_seconds: float = WAIT_SECONDS
) -> dict[str, str | None]:
    """Send a message over all channels at once.

    Returns:
        Channel -> why it failed; None: it was sent.
    """
    message = Message(
        f"{settings.station.name}: a test",
        f"Station {settings.station.name} can tell you things over this channel.",
    )
    outcomes: dict[str, str | None] = {}

    def attempt(name: str, url: SecretStr) -> None:
        try:
            send(url, message)
            outcomes[name] = None
        except NotSent as error:
            outcomes[name] = str(error)

    threads = [
        threading.Thread(target=attempt, args=pair, daemon=True) for pair in channels.items()
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + wait_seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer for {wait_seconds:.0f} s"
    return {name: outcomes.get(name, late) for name in channels}
