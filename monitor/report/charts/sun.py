"""When it is night where the cameras stand: to some minutes, good enough to shade a chart."""

from __future__ import annotations

import numpy as np

from monitor.log.detected import Detections

HORIZON = np.radians(-0.833)  # of the sun's middle when its rim sets, with refraction
TILT = np.radians(23.44)


def night(detections: Detections) -> tuple[float, float] | None:
    """Sunset and sunrise by the cameras' clocks (hours, 0-24), the median over detections.

    Declination by Cooper 1969, equation of time by the short series of Duffie & Beckman, "Solar
    Engineering of Thermal Processes", chapter 1.

    Returns:
        None where no camera with coordinates detected anything, or the sun does not set or rise.
    """
    unknown = float("nan")
    latitudes = [unknown if p.latitude is None else p.latitude for p in detections.places]
    longitudes = [unknown if p.longitude is None else p.longitude for p in detections.places]
    latitude = np.radians(np.array([*latitudes, unknown]))[detections.deployment_code]
    longitude = np.array([*longitudes, unknown])[detections.deployment_code]
    known = np.isfinite(latitude) & np.isfinite(longitude)
    if not known.any():
        return None
    latitude, longitude = latitude[known], longitude[known]
    year = detections.days[known] % 365.2425  # days since new year, near enough
    declination = -TILT * np.cos(2 * np.pi * (year + 11) / 365.24)
    b = 2 * np.pi * (year - 80) / 364
    minutes = 9.87 * np.sin(2 * b) - 7.53 * np.cos(b) - 1.5 * np.sin(b)
    offset = (detections.local_minutes[known] - detections.at[known] / 60) / 60
    noon = 12 - longitude / 15 - minutes / 60 + offset
    down = np.sin(HORIZON) - np.sin(latitude) * np.sin(declination)
    half_day = down / np.maximum(np.cos(latitude) * np.cos(declination), 1e-9)
    if not (abs(np.median(half_day)) < 1):
        return None
    half = float(np.degrees(np.arccos(np.median(half_day)))) / 15
    middle = float(np.median(noon))
    return (middle + half) % 24, (middle - half) % 24
