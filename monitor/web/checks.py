"""What a request must look like to be let in: decisions on plain values."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
IMPORT_PATH = "/api/v1/species/import"
LONGEST_NEXT = 2000
HEALTH, READY, METRICS = "/healthz", "/readyz", "/metrics"
_HOST = re.compile(r"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


def is_loopback(host: str) -> bool:
    """True if only this machine can reach what listens at `host`; names but localhost: no."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_host(host_header: str) -> bool:
    """True if it is a name or an address, with or without a port."""
    return _HOST.fullmatch(host_header) is not None


def names_this_machine(host_header: str) -> bool:
    """True if a Host header names this machine by itself.

    A page elsewhere whose name is made to point here (DNS rebinding) names itself instead.
    """
    try:
        return is_loopback(urlsplit(f"//{host_header}").hostname or "")
    except ValueError:
        return False


def is_foreign(method: str, headers: Mapping[str, str]) -> bool:
    """True if a browser says that another site sent this, and not by a link that was followed."""
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return False
    followed = headers.get("sec-fetch-mode") == "navigate"
    whole_page = headers.get("sec-fetch-dest") == "document"
    return not (method == "GET" and followed and whole_page)


def is_own_origin(headers: Mapping[str, str], scheme: str) -> bool:
    """True if an unsafe request came from a page of this host, as far as its browser says.

    Args:
        scheme: of the request. Over https an http page of the same host is a stranger; over
            http it may be that something in front of us took the https off.
    """
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    same_host = bool(parts.netloc) and parts.netloc.lower() == headers.get("host", "").lower()
    return same_host and scheme in ("http", parts.scheme)


def asks_nobody(path: str, metrics: str, client: str, host_header: str) -> bool:
    """True for what everybody may read: how the station is. Its figures, which name places and
    species, only where the config says so, asked from this machine under its own name.

    Args:
        metrics: `web.metrics`.
        client: address of whoever asks.
    """
    if path in (HEALTH, READY):
        return True
    return (
        path == METRICS
        and metrics == "local"
        and is_loopback(client)
        and names_this_machine(host_header)
    )


def has_body(headers: Mapping[str, str]) -> bool:
    """True if a body follows the head."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def wanted_type(path: str) -> str:
    """The Content-Type that a body for `path` must have."""
    if path == IMPORT_PATH:
        return "text/csv"
    return "application/json" if path.startswith("/api/") else "application/x-www-form-urlencoded"


def local_path(text: str | None) -> str:
    """Where to go after the login: `text` if it is a path of this station, else the start.

    Browsers read backslashes as slashes and leave tabs and line ends out: none is let through.
    """
    if not text or len(text) > LONGEST_NEXT or not text.startswith("/") or text.startswith("//"):
        return "/"
    if "\\" in text or not text.isascii() or not text.isprintable() or " " in text:
        return "/"
    return text


def address_key(address: str) -> str:
    """An address as it is counted: of IPv6 the network, any one has 2⁶⁴ addresses in it."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
