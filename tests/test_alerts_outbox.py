"""Alerts on their way: over real servers on this machine, which go down and come back."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from field import jpeg
from logbook import GAP, item, predict, publish, say
from PIL import Image
from pydantic import SecretStr
from receivers import Webhook, free_port, mail_server, silence, webhook

from monitor.core.config import ConfigError, Settings, load_settings
from monitor.health.alert_channels import ChannelsError, channels_of, open_to_others, shown
from monitor.health.alert_outbox import (
    FAILING_FOR,
    TRIED_FOR,
    UNCOUNTED,
    Outbox,
    Standing,
    counted,
    pause_after,
    to_be_told,
)
from monitor.health.alert_picture import picture_of
from monitor.health.alert_sending import Message, NotSent, send, without_secrets
from monitor.log.media import BatchResult
from monitor.log.species_log import SpeciesLog, open_log
from monitor.log.taking_in import IntakeItem
from monitor.system.reading import read_content

NOW = datetime(2027, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECRETS = ("geheim-4711", "token-0815", "ranger")


@dataclass
class Stand:
    """What the duty needs of a station: real settings, a real log, a clock by hand."""

    settings: Settings
    log: SpeciesLog
    now: datetime = NOW

    def clock(self) -> datetime:
        return self.now

    def states(self) -> dict[str, str]:
        """Channel -> where the oldest alert is on it."""
        return {way.channel: way.state for way in self.log.alerts(1000)[-1].deliveries}

    def tell(self, subject: str = "lynx at north", *channels: str, media: int | None = None) -> int:
        return self.log.add_alert(
            "species", subject, subject, "…", channels or ["hook"], self.now, media
        )


def settings_of(folder: Path, urls: dict[str, str], more: str = "") -> Settings:
    path = folder / "config.yaml"
    path.write_text(
        "station: {name: Hut, timezone: Europe/Berlin}\n"
        "classifier: {backbone: small, threads: 1}\n"
        "watch: {folders: [frames]}\nweb: {enabled: false}\n"
        f"alerts: {{urls: {json.dumps(urls)}{more}}}\n"
    )
    return load_settings(path)


def stand_of(folder: Path, urls: dict[str, str], more: str = "") -> Stand:
    settings = settings_of(folder, urls, more)
    return Stand(settings, open_log(settings.database.url, create=True))


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as hook:
        yield hook


def test_an_alert_gets_through_with_the_station_and_its_time(tmp_path: Path, hook: Webhook) -> None:
    stand = stand_of(tmp_path, {"hook": hook.url()})
    stand.tell()
    stand.now += timedelta(hours=3)
    Outbox().send(stand)
    (got,) = hook.got
    assert got["title"] == "Hut: lynx at north"
    assert "Station Hut, told 2027-05-01 14:00 CEST" in got["message"], "when it was, not now"
    assert stand.states() == {"hook": "sent"}
    Outbox().send(stand)
    assert len(hook.got) == 1


def test_what_waits_while_the_line_is_down_is_sent_when_it_is_back(
    tmp_path: Path, hook: Webhook
) -> None:
    stand, outbox = stand_of(tmp_path, {"hook": hook.url()}), Outbox()
    hook.down()
    names = [f"alert {n}" for n in range(5)]
    for name in names:
        stand.tell(name)
    for _ in range(30):
        outbox.send(stand)
        stand.now += MINUTE
    assert hook.got == [] and stand.log.deliveries()["waiting"] == 5
    assert stand.log.state("alerts")["failing"]["hook (json)"].endswith("Connection refused")
    hook.up()
    while not hook.got:
        outbox.send(stand)
        stand.now += MINUTE
    outbox.send(stand)  # nobody waits for the end of a pause once the line is back
    assert sorted(hook.subjects) == [f"Hut: {name}" for name in names]
    assert stand.log.deliveries() == {"waiting": 0, "sent": 5, "failed": 0}
    assert stand.log.state("alerts")["failing"] == {}


def test_the_pauses_double_up_to_six_hours_and_end_after_seven_days() -> None:
    pauses = []
    while (pause := pause_after(len(pauses) + 1)) is not None:
        pauses.append(pause)
    assert pauses[:4] == [MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE]
    assert max(pauses) == pauses[-1] == timedelta(hours=6)
    assert TRIED_FOR - timedelta(hours=6) < sum(pauses, timedelta()) <= TRIED_FOR


def test_what_is_not_taken_while_others_are_is_given_up_after_seven_days_and_that_is_said(
    tmp_path: Path, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    stand, outbox = stand_of(tmp_path, {"hook": hook.url()}), Outbox()
    refused = stand.tell("refused")
    hook.refuses = "refused"
    tries = 0
    while stand.log.deliveries()["failed"] == 0:
        assert tries < 100
        stand.tell(f"alert {tries}")
        outbox.send(stand)
        outbox.send(stand)
        stand.now += timedelta(hours=6)
        tries += 1
    assert tries > 30
    assert "given up" in caplog.text and "error=500" in caplog.text
    outbox.send(stand)
    counts = stand.log.deliveries()
    assert (counts["failed"], counts["waiting"]) == (1, 0)
    assert stand.log.alerts(1000)[-1].id == refused and stand.states() == {"hook": "failed"}


def test_a_station_that_is_offline_for_two_months_loses_no_alert(
    tmp_path: Path, hook: Webhook
) -> None:
    stand, outbox = stand_of(tmp_path, {"hook": hook.url()}), Outbox()
    hook.down()
    names = ["alert 0", "alert 1"]
    stand.tell(names[0])
    for round_ in range(240):
        if round_ == 100:
            stand.tell(names[1])
        outbox = Outbox() if round_ % 50 == 0 else outbox  # the service is started anew
        outbox.send(stand)
        stand.now += timedelta(hours=6)
    assert stand.log.deliveries() == {"waiting": 2, "sent": 0, "failed": 0}
    hook.up()
    outbox.send(stand)
    outbox.send(stand)
    assert sorted(hook.subjects) == [f"Hut: {name}" for name in names]


def test_only_tries_while_others_get_through_lead_to_giving_up() -> None:
    assert counted(3, gets_through=True) == 4
    assert counted(3, gets_through=False) == 4, "the pauses grow"
    assert counted(20, gets_through=False) == 20
    assert counted(UNCOUNTED, gets_through=False) == UNCOUNTED
    assert pause_after(UNCOUNTED) == timedelta(hours=6)


def test_what_waits_is_bounded_and_routine_goes_first(
    tmp_path: Path, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.health.alert_outbox.MOST_WAITING", 3)
    stand, outbox = stand_of(tmp_path, {"hook": hook.url()}), Outbox()
    hook.down()
    stand.log.add_alert("station", "disk", "disk: trouble", "", ["hook"], stand.now)
    for number in range(4):
        stand.tell(f"lynx {number}")
    outbox.send(stand)
    left = [a.subject for a in stand.log.alerts(9) if a.deliveries[0].state == "waiting"]
    assert left == ["lynx 3", "lynx 2", "disk: trouble"]
    dropped = stand.log.alerts(9)[-2].deliveries[0]
    assert (dropped.state, dropped.problem) == ("failed", "more than 3 were waiting")
    outbox.send(stand)
    assert stand.log.deliveries()["waiting"] == 3


def test_a_clock_that_jumps_neither_gives_up_nor_waits_for_years(
    tmp_path: Path, hook: Webhook
) -> None:
    stand, outbox = stand_of(tmp_path, {"hook": hook.url()}), Outbox()
    hook.down()
    stand.now = datetime(1970, 1, 1, 1, tzinfo=UTC)
    stand.tell()
    outbox.send(stand)
    stand.now = datetime(2050, 1, 1, tzinfo=UTC)
    outbox.send(stand)
    assert stand.states() == {"hook": "waiting"}
    stand.now = NOW
    hook.up()
    outbox.send(stand)
    assert stand.states() == {"hook": "sent"}


def test_a_channel_that_hangs_holds_up_no_other_and_is_named(tmp_path: Path, hook: Webhook) -> None:
    with silence() as port:
        urls = {"hook": hook.url(), "deaf": f"json://127.0.0.1:{port}/?rto=20"}
        stand, outbox = stand_of(tmp_path, urls), Outbox(wait_seconds=1)
        stand.tell("one", "hook", "deaf")
        stand.tell("two", "hook", "deaf")
        began = time.monotonic()
        outbox.send(stand)
        outbox.send(stand)
        assert time.monotonic() - began < 10
        assert hook.subjects == ["Hut: one", "Hut: two"]
        assert stand.log.state("alerts")["failing"] == {"deaf (json)": "no answer for 1 s"}
        busy = [t for t in threading.enumerate() if t.name == "alerts over deaf"]
        assert len(busy) == 1, "it is not asked again before it has answered"


def test_a_channel_that_fails_is_told_once_over_another(tmp_path: Path, hook: Webhook) -> None:
    urls = {"hook": hook.url(), "dead": f"json://ranger:geheim-4711@127.0.0.1:{free_port()}/x"}
    stand, outbox = stand_of(tmp_path, urls), Outbox()
    stand.tell("lynx at north", "hook", "dead")
    for _ in range(30):
        outbox.send(stand)
        stand.now += MINUTE
    assert hook.subjects == [
        "Hut: lynx at north",
        "Hut: alerts do not get through over dead (json)",
    ]
    assert "Connection refused" in hook.got[1]["message"]
    assert not any(secret in str(hook.got) for secret in SECRETS)
    assert [a.kind for a in stand.log.alerts(9)] == ["channel", "species"]
    assert [way.channel for way in stand.log.alerts(1)[0].deliveries] == ["hook"]


def test_nobody_is_told_of_a_channel_while_all_lines_are_down() -> None:
    down = Standing(failing_since="2027-05-01T12:00:00.000Z", problem="no route")
    fine = Standing(last_sent="2027-05-01T12:00:00.000Z")
    later = NOW + FAILING_FOR
    assert to_be_told({"a": down, "b": down}, ["a", "b"], later) == ([], [])
    assert to_be_told({"a": down, "b": fine}, ["a", "b"], later) == (["a"], ["b"])
    assert to_be_told({"a": down, "b": fine}, ["a", "b"], later - MINUTE) == ([], [])
    told = Standing(failing_since=down.failing_since, told=True)
    assert to_be_told({"a": told, "b": fine}, ["a", "b"], later) == ([], [])


def test_the_health_forgets_a_failing_channel_when_alerts_are_turned_off(tmp_path: Path) -> None:
    stand = stand_of(tmp_path, {"hook": f"json://127.0.0.1:{free_port()}"})
    stand.tell()
    Outbox().send(stand)
    assert stand.log.state("alerts")["failing"]
    stand.settings = settings_of(tmp_path, {})
    Outbox().send(stand)
    assert stand.log.state("alerts")["failing"] == {}


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_alerts_outbox import Stand, open_log, load_settings
from monitor.health.alert_outbox import Outbox
from monitor.log.species_log import SpeciesLog

settings = load_settings(Path({config!r}))
def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
SpeciesLog.delivered = die
with open_log(settings.database.url) as log:
    Outbox().send(Stand(settings, log))
"""


def test_killed_between_sending_and_noting_it_the_alert_comes_twice_and_is_never_lost(
    tmp_path: Path, hook: Webhook
) -> None:
    """At least once: nobody can do better over channels that do not tell messages apart."""
    stand = stand_of(tmp_path, {"hook": hook.url()})
    stand.tell()
    code = KILLED.format(tests=str(Path(__file__).parent), config=str(stand.settings.source))
    ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert len(hook.got) == 1 and stand.states() == {"hook": "waiting"}
    Outbox().send(stand)
    assert len(hook.got) == 2 and stand.states() == {"hook": "sent"}


def test_a_mail_goes_out_with_its_picture(tmp_path: Path) -> None:
    with mail_server() as server:
        url = f"mailto://127.0.0.1:{server.port}?from=hut@example.org&to=ranger@example.org&mode=insecure"
        send(SecretStr(url), Message("Hut: lynx", "a lynx", jpeg(1)))
        (mail,) = server.mails
    assert b"Subject: Hut: lynx" in mail and b"a lynx" in mail
    assert base64.b64encode(jpeg(1))[:60] in mail and b"image/jpeg" in mail


def a_frame(stand: Stand, folder: Path) -> int:
    """One classified media with a real file of 1000 × 800 pixels."""
    path = folder / "frames" / "north" / "a.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = Image.Exif()
    facts.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)  # GPSLatitude
    facts[0x010E] = "the den is behind the rock"
    Image.effect_noise((1000, 800), 60).convert("RGB").save(path, "JPEG", exif=facts)
    content = read_content(os.fsencode(path))
    base = item("a.jpg")
    read = IntakeItem(
        os.fsencode(path), content.stamp, content.sha256, "north", base.metadata, None
    )
    ((media_id, _),) = stand.log.take_in([read], NOW, GAP)
    stand.log.record(BatchResult(classified=(media_id,)), NOW)
    publish(stand.log)
    return int(media_id)


def test_the_picture_is_small_and_tells_no_place(tmp_path: Path, hook: Webhook) -> None:
    stand = stand_of(tmp_path, {"hook": hook.url()})
    media_id = a_frame(stand, tmp_path)
    predict(stand.log, {media_id: ("lynx", 0.9)})
    stand.tell(media=media_id)
    Outbox().send(stand)
    (attached,) = hook.got[0]["attachments"]
    data = base64.b64decode(attached["base64"])
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "JPEG" and picture.size == (800, 640)
    assert not picture.getexif() and b"the den" not in data


@pytest.mark.parametrize("species", ["person", "vehicle"])
@pytest.mark.parametrize("by", ["model", "label beside a lynx"])
def test_a_private_frame_is_never_sent(
    tmp_path: Path, hook: Webhook, species: str, by: str
) -> None:
    stand = stand_of(tmp_path, {"hook": hook.url()})
    media_id = a_frame(stand, tmp_path)
    if by == "model":
        predict(stand.log, {media_id: (species, 0.9)})
    else:
        predict(stand.log, {media_id: ("lynx", 0.9)})
        say(stand.log, media_id, "lynx", species)
    stand.tell(media=media_id)
    Outbox().send(stand)
    assert len(hook.got) == 1 and hook.got[0]["attachments"] == []


def test_a_frame_nobody_has_looked_at_or_whose_file_is_gone_goes_without_picture(
    tmp_path: Path,
) -> None:
    stand = stand_of(tmp_path, {"hook": "json://127.0.0.1:9"})
    media_id = a_frame(stand, tmp_path)
    assert picture_of(stand.settings, stand.log, media_id) is None
    predict(stand.log, {media_id: ("lynx", 0.9)})
    assert picture_of(stand.settings, stand.log, media_id) is not None
    (tmp_path / "frames" / "north" / "a.jpg").unlink()
    assert picture_of(stand.settings, stand.log, media_id) is None


def test_no_picture_goes_out_where_the_config_says_so(tmp_path: Path) -> None:
    stand = stand_of(tmp_path, {"hook": "json://127.0.0.1:9"}, ", pictures: false")
    media_id = a_frame(stand, tmp_path)
    predict(stand.log, {media_id: ("lynx", 0.9)})
    assert picture_of(stand.settings, stand.log, media_id) is None


@pytest.fixture
def journal() -> Iterator[io.StringIO]:
    """What the service would write: all that reaches the handler of the root logger, and more."""
    stream = io.StringIO()
    root, handler = logging.getLogger(), logging.StreamHandler(stream)
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def test_no_part_of_an_address_is_ever_said(
    tmp_path: Path, hook: Webhook, journal: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    hook.status = 403
    dead = free_port()
    urls = {
        "hook": hook.url(),
        "dead": f"json://ranger:geheim-4711@127.0.0.1:{dead}/token-0815",
        "chat": "tgram://123456789:token-0815aaaaaaaaaaaaaaaaaaaaaaaaaaa/ranger",
        "mail": f"mailto://ranger:geheim-4711@example.org?smtp=127.0.0.1&port={dead}&mode=insecure",
        "odd": "nix://ranger:geheim-4711@token-0815",
    }
    stand = stand_of(tmp_path, urls)
    stand.tell("lynx at north", *urls)
    outbox = Outbox()
    for _ in range(3):
        outbox.send(stand)
        stand.now += 5 * MINUTE
    told = journal.getvalue() + "".join(capfd.readouterr())
    told += repr(stand.settings) + str(stand.settings.model_dump())
    told += str(stand.log.state("alerts")) + str(stand.log.alerts(9))
    for file in tmp_path.rglob("*.db*"):
        told += file.read_bytes().decode("latin-1")
    assert "alerts do not get through over mail (mailto)" in told
    for secret in SECRETS:
        assert secret not in told, secret


def test_what_a_library_says_loses_every_part_of_the_address() -> None:
    url = "json://me:p%40ss-word@host.example:8443/a/token?key=value-1"
    said = (
        f"POST https://me:p@ss-word@host.example:8443/a/token?key=value-1 of {url} failed\nreally"
    )
    cleaned = without_secrets(said, url)
    for part in ("p@ss-word", "p%40ss-word", "host.example", "token", "value-1", "\n"):
        assert part not in cleaned
    assert cleaned.endswith("failed really")


def test_apprise_is_imported_only_when_there_is_something_to_send(tmp_path: Path) -> None:
    stand = stand_of(tmp_path, {"hook": "json://127.0.0.1:9"})
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_alerts_outbox import Stand, open_log, load_settings
import monitor.service.periodic_tasks
from monitor.health.alert_outbox import Outbox
settings = load_settings(Path({str(stand.settings.source)!r}))
with open_log(settings.database.url) as log:
    Outbox().send(Stand(settings, log))
print("apprise" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_address_that_is_none_is_refused_without_repeating_it(tmp_path: Path) -> None:
    for urls in (
        '{mail: "geheim-4711"}',
        "geheim-4711",
        '["geheim-4711"]',
        '{"a b": "x://geheim-4711"}',
    ):
        (tmp_path / "c.yaml").write_text(f"alerts: {{urls: {urls}}}\n")
        with pytest.raises(ConfigError) as told:
            load_settings(tmp_path / "c.yaml")
        assert "geheim" not in str(told.value) and "alerts.urls" in str(told.value)
    (tmp_path / "c.yaml").write_text('alerts: {url: "mailto://ranger:geheim-4711@x.org"}\n')
    with pytest.raises(ConfigError) as told:
        load_settings(tmp_path / "c.yaml")
    assert "geheim" not in str(told.value) and "unknown key" in str(told.value)


def test_addresses_come_from_a_list_the_environment_or_a_credential(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("classifier: {backbone: small}\n")
    listed = {"TRAPWATCH_ALERTS__URLS": '["mailto://a:b@c.org", "tgram://t/1"]'}
    channels = channels_of(load_settings(path, listed))
    assert [shown(name, channels) for name in channels] == [
        "mailto-1 (mailto)",
        "tgram-2 (tgram)",
    ]
    one = {"TRAPWATCH_ALERTS__URLS__MAIL": "mailto://a:b@c.org"}
    assert list(channels_of(load_settings(path, one))) == ["mail"]
    (tmp_path / "creds").mkdir()
    (tmp_path / "creds" / "TRAPWATCH_ALERTS__URLS").write_text('{hut: "mailto://a:b@c.org"}\n')
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path / "creds")}
    assert list(channels_of(load_settings(path, given))) == ["hut"]


def test_addresses_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    path, secret = tmp_path / "c.yaml", tmp_path / "alerts"
    path.write_text("alerts: {urls_file: '${CREDENTIALS_DIRECTORY}/alerts'}\n")
    secret.write_text(
        "mail: mailto://ranger:geheim-4711@example.org\n# a remark\nchat: tgram://a/b\n"
    )
    secret.chmod(0o600)
    settings, environ = load_settings(path), {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert list(channels_of(settings, environ)) == ["mail", "chat"]
    assert open_to_others(settings, environ) == []
    secret.chmod(0o644)
    assert open_to_others(settings, environ) == [secret]
    with pytest.raises(ChannelsError, match="systemd"):
        channels_of(settings, {})
    secret.write_text("mail: mailto://ranger:geheim-4711@example.org: oops: - ]\n")
    with pytest.raises(ChannelsError) as told:
        channels_of(settings, environ)
    assert "geheim" not in str(told.value) and "line 1" in str(told.value)
    secret.unlink()
    with pytest.raises(ChannelsError, match="No such file"):
        channels_of(settings, environ)


def test_a_file_of_addresses_that_is_gone_is_in_the_health_and_nothing_is_lost(
    tmp_path: Path, hook: Webhook
) -> None:
    stand = stand_of(tmp_path, {})
    file = tmp_path / "alerts.yaml"
    stand.settings = settings_of(tmp_path, {}, ", urls_file: alerts.yaml")
    stand.tell()
    Outbox().send(stand)
    assert "No such file" in stand.log.state("alerts")["failing"]["addresses"]
    file.write_text(f"hook: {hook.url()}\n")
    Outbox().send(stand)
    assert stand.log.state("alerts")["failing"] == {} and stand.states() == {"hook": "sent"}


def test_an_unknown_service_is_said_in_words() -> None:
    with pytest.raises(NotSent, match="does not understand this address"):
        send(SecretStr("nix://x/y"), Message("a", "b"))


def test_the_end_of_the_service_does_not_wait_for_a_channel(tmp_path: Path) -> None:
    with silence() as port:
        stand = stand_of(tmp_path, {"deaf": f"json://127.0.0.1:{port}/?rto=20"})
        stand.tell("x", "deaf")
        began = time.monotonic()
        Outbox().send(stand, lambda: time.monotonic() - began > 0.5)
        assert time.monotonic() - began < 10
        assert stand.states() == {"deaf": "waiting"}
