"""Pictures of the pages for docs/pages: python benchmarks/page_pictures.py [--demo DIR].

A real `trapwatch demo` (or the one in DIR), a real `trapwatch run`, a real Chromium. What is seen
is the demo's rendered world: no photograph of anybody's forest is in this repository.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from pages import chromium, say_who
from PIL import Image
from playwright.sync_api import Browser, Page
from web import free_port
from webclient import served

from monitor.core.config import load_settings
from monitor.core.domain import How, iso_utc, utc_now
from monitor.core.silence import OutageState, Reason
from monitor.log.species_log import open_log

DOCS = Path(__file__).parents[1] / "docs" / "pages"
DESKTOP, TABLET, PHONE = (1280, 800), (820, 1180), (390, 844)
SETTLED_MS = 2500
QUALITY = 82
LOOKED_MS = 8000


CALLED = ("ranger", "office")
CHANNELS = """\
alerts: {urls: {ranger: "jsons://127.0.0.1:9/x", office: "mailtos://hut:x@127.0.0.1:9"}}
"""
LINE_DOWN = "the mail server does not answer"
TOLD = (
    ("model", "new model v0001 is live", "v0001 is the live model now: it is the first."),
    ("species", "badger at creek, the first in 30 days", "96% sure, as model v0001 says."),
    ("station", "disk: trouble", "disk low, 910 MB free where the log lies; 1,000 needed."),
)


def nothing(page: Page) -> None:
    """The page as it opens."""


def look(page: Page) -> None:
    """Where the model looked."""
    page.keyboard.press("l")
    page.wait_for_timeout(LOOKED_MS)


def several(page: Page) -> None:
    """Some frames selected."""
    page.locator(".cell").nth(1).click()
    page.locator(".cell").nth(9).click(modifiers=["Shift"])


def all_of_it(page: Page) -> None:
    """Charts are drawn when they come into view."""
    for _ in range(12):
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(200)
    page.wait_for_selector("[aria-busy=true]", state="detached")
    page.evaluate("scrollTo(0, 0)")


SHOTS: dict[str, tuple[str, tuple[int, int], str, Callable[[Page], None]]] = {
    "review": ("/review", DESKTOP, "light", nothing),
    "review-look": ("/review", DESKTOP, "dark", look),
    "review-phone": ("/review", PHONE, "dark", nothing),
    "review-tablet": ("/review", TABLET, "light", nothing),
    "grid": ("/grid", DESKTOP, "light", several),
    "browse": ("/browse", DESKTOP, "light", nothing),
    "dashboard": ("/", DESKTOP, "light", all_of_it),
    "dashboard-phone": ("/", PHONE, "dark", all_of_it),
    "models": ("/models/v0001", DESKTOP, "light", nothing),
    "species": ("/species", DESKTOP, "light", nothing),
    "station": ("/station", DESKTOP, "light", nothing),
}


def lived_in(config: Path) -> None:
    """What a demo lacks: somebody to tell, something told, a silence of which people spoke."""
    if "\nalerts:" in (text := config.read_text(encoding="utf-8")):
        return
    config.write_text(text + CHANNELS, encoding="utf-8")
    now = utc_now()
    ago = [now - timedelta(hours=hours) for hours in (30, 26, 3)]
    with open_log(load_settings(config).database.url) as log:
        log.propose_outages(now)
        for outage in log.outages()[2:]:
            end, reason = outage.start + timedelta(days=9), Reason.BATTERY
            log.judge_outage(
                outage.id, OutageState.CONFIRMED, "Ana", How.WEB, now, end=end, reason=reason
            )
        for at, (kind, subject, body) in zip(ago, TOLD, strict=True):
            log.delivered(log.add_alert(kind, subject, subject, body, CALLED, at), "ranger", at)
        for due in log.deliveries_due(now, 9, "office"):
            log.delivery_failed(due.alert_id, "office", LINE_DOWN, now + timedelta(hours=6))
        office = {"failing_since": iso_utc(ago[0]), "problem": LINE_DOWN, "told": True}
        works = {"ranger": {"last_sent": iso_utc(ago[-1])}, "office": office}
        log.put_state("alerts", {"channels": works, "failing": {}}, now)


def shoot(browser: Browser, url: str, name: str) -> None:
    """One picture."""
    path, (width, height), scheme, act = SHOTS[name]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        has_touch=width < 1000,
    )
    page = context.new_page()
    page.goto(f"{url}/login")
    say_who(page)
    page.goto(url + path)
    page.wait_for_timeout(SETTLED_MS)
    act(page)
    page.wait_for_timeout(500)
    picture = Image.open(
        io.BytesIO(page.screenshot(full_page=name.startswith(("dashboard", "station"))))
    )
    picture.convert("RGB").save(DOCS / f"{name}.jpg", quality=QUALITY, optimize=True)
    page.goto("about:blank")  # its frames are free for the next picture
    page.wait_for_timeout(300)
    context.close()


def main() -> None:
    """Build the station, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, help="a station that `trapwatch demo` made")
    parser.add_argument("--only", help="one picture, by its name")
    chosen = parser.parse_args()
    DOCS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        station = chosen.demo or Path(folder) / "demo"  # its path is seen in `browse`
        if not chosen.demo:
            command = [sys.executable, "-m", "monitor", "demo", "--dir", str(station)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        port = free_port()
        config = station / "config.yaml"
        lived_in(config)
        with served(config, port, "run"), chromium() as browser:
            for name in [chosen.only] if chosen.only else SHOTS:
                shoot(browser, f"http://127.0.0.1:{port}", name)
                print(DOCS / f"{name}.jpg")


if __name__ == "__main__":
    main()
