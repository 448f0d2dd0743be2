"""Passwords and tokens: a file of their own beside the log, readable by the station only."""

from __future__ import annotations

from pathlib import Path


class Accounts:
    """Who may come in. Kept in `accounts.json` (mode 0600), never in config.yaml or the log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
