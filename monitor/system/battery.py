"""The battery of this machine."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

SUPPLIES = Path("/sys/class/power_supply")


@dataclass(frozen=True, slots=True)
class Battery:
    """What the machine tells of its battery: 0-100 %, and whether it is being charged."""

    percent: float
    on_mains: bool


def read_battery(supplies: Path = SUPPLIES) -> Battery | None:
    """The battery of this machine, a UPS hat included; None where nothing is known of one.

    The system's own files come first: they tell the battery of a mouse from the machine's.
    """
    if not supplies.is_dir():
        return _battery_elsewhere()
    found = [_facts(supply) for supply in sorted(supplies.iterdir())]
    own = [facts for facts in found if facts.get("scope", "System") != "Device"]
    stores = [facts for facts in own if facts.get("type") in ("Battery", "UPS")]
    levels = [level for facts in stores if (level := _percent(facts)) is not None]
    if not levels:
        return None
    sources = [facts for facts in own if facts.get("type") in ("Mains", "USB")]
    fed = any(facts.get("online") == "1" for facts in sources)
    states = {facts.get("status") for facts in stores}
    charged = bool(states & {"Charging", "Full", "Not charging"}) and "Discharging" not in states
    return Battery(sum(levels) / len(levels), fed or charged)


def _facts(supply: Path) -> dict[str, str]:
    """The small files of one power supply that can be read."""
    facts = {}
    for name in ("type", "scope", "capacity", "online", "status"):
        with suppress(OSError, UnicodeDecodeError):
            facts[name] = (supply / name).read_text().strip()
    return facts


def _percent(facts: dict[str, str]) -> float | None:
    try:
        percent = float(facts["capacity"])
    except (KeyError, ValueError):
        return None
    return percent if 0 <= percent <= 100 else None


def _battery_elsewhere() -> Battery | None:
    """Where there is no /sys: what psutil knows."""
    import psutil

    try:
        battery = psutil.sensors_battery()
    except Exception as error:  # noqa: BLE001  a driver's fault must not end anything
        logger.debug("no battery can be read: %s", error)
        return None
    return Battery(battery.percent, bool(battery.power_plugged)) if battery is not None else None
