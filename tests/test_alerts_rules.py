"""What is worth telling people."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from logbook import GAP, item, predict, publish, say

from monitor.core.config import Settings, load_settings
from monitor.core.domain import FileStamp, MediaStatus, RunState, Sighting, Source, iso_utc
from monitor.core.silence import Outage, OutageState
from monitor.health import alert_rules as rules
from monitor.health.alert_news import GATHERED, STATE_KEY, forget_old_alerts, look_for_news
from monitor.health.alerts import is_cooling, raise_alert
from monitor.log.alerts import AlertRow
from monitor.log.media import BatchResult
from monitor.log.species_log import SpeciesLog, open_log
from monitor.pipeline.deployments import DeploymentRow

NOW = datetime(2027, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ALERTS = """\
station: {name: test}
classifier: {backbone: small, threads: 1}
web: {enabled: false}
alerts:
  urls: {hook: "json://127.0.0.1:9/x", mail: "mailto://me:pw@127.0.0.1:9"}
"""


@dataclass
class Stand:
    """What a duty needs of a station: a real log and settings, and a clock by hand."""

    settings: Settings
    log: SpeciesLog
    now: datetime = NOW
    names: Iterator[int] = field(default_factory=lambda: iter(range(10**6)))

    def clock(self) -> datetime:
        return self.now

    def frames(
        self, count: int = 1, *, ago: timedelta = HOUR, apart: float = 1, place: str = "north"
    ) -> list[int]:
        """Classified media, the first captured so long ago, the next each `apart` minutes later."""
        first = (self.now - ago).replace(tzinfo=None)
        items = [
            item(f"{next(self.names)}.jpg", first + n * timedelta(minutes=apart), place)
            for n in range(count)
        ]
        media_ids = [media_id for media_id, _ in self.log.take_in(items, self.now, GAP)]
        self.log.record(BatchResult(classified=tuple(media_ids)), self.now)
        return media_ids

    def look(self) -> list[AlertRow]:
        """Look once; the alerts that this made, in their order."""
        known = {row.id for row in self.log.alerts(10_000)}
        look_for_news(self)
        return [row for row in reversed(self.log.alerts(10_000)) if row.id not in known]


def make(folder: Path, more: str = "") -> Stand:
    (folder / "config.yaml").write_text(ALERTS + more)
    settings = load_settings(folder / "config.yaml")
    stand = Stand(settings, open_log(settings.database.url, create=True))
    publish(stand.log)
    look_for_news(stand)
    return stand


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """A station that watches out for lynx, and has looked once."""
    made = make(tmp_path, "  species: [Lynx, vehicle]\n  first_in_days: 0\n")
    yield made
    made.log.close()


@pytest.fixture
def curious(tmp_path: Path) -> Iterator[Stand]:
    """A station that watches out for nothing but what is new in 30 days."""
    made = make(tmp_path)
    yield made
    made.log.close()


def subjects(alerts: list[AlertRow]) -> list[str]:
    return [alert.subject for alert in alerts]


def test_a_watched_species_is_told_once_with_its_frame_over_every_channel(stand: Stand) -> None:
    (media_id,) = stand.frames()
    predict(stand.log, {media_id: ("lynx", 0.93)})
    (alert,) = stand.look()
    assert (alert.subject, alert.media_id) == ("lynx at north", media_id)
    assert "93% sure" in alert.body and "v0001" in alert.body
    assert [way.channel for way in alert.deliveries] == ["hook", "mail"]
    assert stand.look() == []


def test_a_species_that_is_not_watched_or_not_sure_is_not_told(stand: Stand) -> None:
    first, second = stand.frames(2)
    predict(stand.log, {first: ("lynx", 0.79), second: ("badger", 0.99)})
    assert stand.look() == []


def test_what_a_person_says_is_told_whatever_the_model_thinks(stand: Stand) -> None:
    (media_id,) = stand.frames()
    predict(stand.log, {media_id: ("badger", 0.99)})
    say(stand.log, media_id, "badger", "lynx")
    (alert,) = stand.look()
    assert alert.subject == "lynx at north" and "as a person says" in alert.body
    assert "Ana" not in alert.body


def test_an_event_of_many_frames_is_one_alert_with_the_surest_frame(stand: Stand) -> None:
    media_ids = stand.frames(20, apart=0.1)
    predict(stand.log, {m: ("lynx", 0.81 + 0.005 * n) for n, m in enumerate(media_ids[:10])})
    (alert,) = stand.look()
    assert alert.media_id == media_ids[9]
    stand.now += 2 * HOUR  # long after the cool-down
    predict(stand.log, dict.fromkeys(media_ids[10:], ("lynx", 0.99)))
    assert stand.look() == [], "the same event again"


def test_the_cool_down_is_of_a_species_at_a_place(stand: Stand) -> None:
    (first,) = stand.frames(ago=23 * HOUR)
    predict(stand.log, {first: ("lynx", 0.9)})
    assert len(stand.look()) == 1
    stand.now += timedelta(minutes=59)
    (second,), (elsewhere,) = stand.frames(), stand.frames(place="south")
    predict(stand.log, {second: ("lynx", 0.9), elsewhere: ("lynx", 0.9)})
    assert subjects(stand.look()) == ["lynx at south"]
    stand.now += timedelta(minutes=2)
    (third,) = stand.frames(ago=timedelta())
    predict(stand.log, {third: ("lynx", 0.9)})
    assert subjects(stand.look()) == ["lynx at north"]


def test_an_alert_from_a_clock_that_ran_ahead_silences_nobody() -> None:
    assert is_cooling(NOW, NOW + timedelta(minutes=59), HOUR)
    assert not is_cooling(NOW, NOW + HOUR, HOUR)
    assert not is_cooling(NOW + timedelta(days=400), NOW, HOUR)
    assert not is_cooling(None, NOW, HOUR)


def test_a_backlog_of_ten_thousand_old_frames_tells_nothing(stand: Stand) -> None:
    old = stand.frames(10_000, ago=timedelta(days=300), apart=35)
    fresh = stand.frames(1)
    predict(stand.log, dict.fromkeys([*old, *fresh], ("lynx", 0.95)))
    captured = [stand.log.sightings_of([a.media_id])[0].captured_at for a in stand.look()]
    assert len(captured) == 1 and captured[0] > "2027-04-30T12"


def test_frames_from_the_future_are_a_camera_with_a_wrong_clock(stand: Stand) -> None:
    (media_id,) = stand.frames(ago=-timedelta(days=400))
    predict(stand.log, {media_id: ("lynx", 0.95)})
    assert stand.look() == []


def test_the_first_in_thirty_days_is_told_and_the_second_is_not(curious: Stand) -> None:
    (before,) = curious.frames(ago=timedelta(days=31))
    predict(curious.log, {before: ("badger", 0.95)})
    (media_id,) = curious.frames()
    predict(curious.log, {media_id: ("badger", 0.95)})
    assert subjects(curious.look()) == ["badger at north, the first in 30 days"]
    curious.now += timedelta(days=2)
    (later,) = curious.frames(place="south")
    predict(curious.log, {later: ("badger", 0.95)})
    assert curious.look() == []


def test_one_seen_29_days_ago_is_no_first_and_a_doubtful_one_does_not_count(curious: Stand) -> None:
    seen, doubtful = curious.frames(2, ago=timedelta(days=29), apart=60)
    predict(curious.log, {seen: ("badger", 0.9), doubtful: ("wolf", 0.5)})
    badger, wolf = curious.frames(2, apart=40)
    predict(curious.log, {badger: ("badger", 0.9), wolf: ("wolf", 0.9)})
    assert subjects(curious.look()) == ["wolf at north, the first in 30 days"]


def test_vehicles_are_told_to_who_asked_for_them_by_name(stand: Stand) -> None:
    person, vehicle = stand.frames(2, apart=40)
    predict(stand.log, {person: ("person", 0.99), vehicle: ("vehicle", 0.99)})
    assert subjects(stand.look()) == ["vehicle at north"]


def test_a_person_is_no_first(curious: Stand) -> None:
    (person,) = curious.frames()
    predict(curious.log, {person: ("person", 0.99)})
    assert curious.look() == []


def test_blank_and_unknown_are_never_told(curious: Stand) -> None:
    first, second = curious.frames(2, apart=40)
    predict(curious.log, {first: ("blank", 0.99), second: ("unknown", 0.99)})
    assert curious.look() == []


def test_new_words_about_millions_of_old_frames_move_the_cursor_and_tell_nothing(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.log.news.NewsQueries.news.__defaults__", (7,))
    old = stand.frames(40, ago=timedelta(days=40), apart=40)
    (fresh,) = stand.frames()
    predict(stand.log, dict.fromkeys([*old, fresh], ("lynx", 0.95)))
    assert len(stand.look()) == 1
    assert stand.log.state(STATE_KEY)["prediction"] == stand.log.cursors().prediction


def test_the_first_look_ever_tells_nothing_of_the_past(tmp_path: Path) -> None:
    settings = load_settings(_written(tmp_path, ALERTS + "  species: [lynx]\n"))
    with open_log(settings.database.url, create=True) as log:
        stand = Stand(settings, log)
        publish(log)
        run = log.start_run("head", "cli", 1, NOW)
        log.finish_run(run, RunState.FAILED, "no room", NOW)
        (media_id,) = stand.frames()
        predict(log, {media_id: ("lynx", 0.95)})
        assert stand.look() == [] and stand.look() == []


def test_nothing_is_looked_at_or_kept_where_nobody_is_to_be_told(tmp_path: Path) -> None:
    settings = load_settings(_written(tmp_path, "classifier: {backbone: small}\n"))
    with open_log(settings.database.url, create=True) as log:
        stand = Stand(settings, log)
        assert stand.look() == [] and log.state(STATE_KEY) is None
        assert not raise_alert(log, settings, "station", "x", "s", "b", NOW)
        assert log.alerts(1) == []


def _written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_a_look_that_ends_suddenly_tells_nothing_twice_and_forgets_nothing(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alerts and how far was looked are one transaction: it is broken off within."""
    (media_id,) = stand.frames()
    predict(stand.log, {media_id: ("lynx", 0.95)})

    def fail(*arguments: object) -> None:
        raise RuntimeError("the power goes here")

    with monkeypatch.context() as broken:
        broken.setattr("monitor.log.alerts.put_state", fail)
        with pytest.raises(RuntimeError):
            stand.look()
    assert stand.log.alerts(9) == []
    assert len(stand.look()) == 1 and stand.look() == []


def test_only_the_first_failed_training_of_a_row_is_told(stand: Stand) -> None:
    def train(state: RunState) -> None:
        run = stand.log.start_run("head", "schedule", 1, stand.now)
        stand.log.finish_run(run, state, "disk full", stand.now)

    train(RunState.FAILED)
    (alert,) = stand.look()
    assert alert.kind == "training" and "disk full" in alert.body
    train(RunState.FAILED)
    assert stand.look() == []
    train(RunState.SUCCEEDED)
    train(RunState.FAILED)
    assert subjects(stand.look()) == ["a training failed"]


def test_a_training_under_way_is_told_of_when_it_has_failed(stand: Stand) -> None:
    run = stand.log.start_run("head", "schedule", 1, stand.now)
    assert stand.look() == []
    stand.log.finish_run(run, RunState.FAILED, "killed", stand.now)
    assert subjects(stand.look()) == ["a training failed"]


def test_a_new_live_model_and_a_restored_log_are_told_once(stand: Stand) -> None:
    publish(stand.log, "v0002")
    stand.log.put_state("recovery", {"at": "2027-05-01T11:00:00.000Z", "words": "3 labels"}, NOW)
    alerts = stand.look()
    assert subjects(alerts) == ["new model v0002 is live", "the log was restored"]
    assert "3 labels" in alerts[1].body
    assert stand.look() == []


def test_a_service_that_begins_anew_again_and_again_is_told_once_in_the_cool_down(
    stand: Stand,
) -> None:
    def restart(minutes: int) -> list[AlertRow]:
        stand.now = NOW + timedelta(minutes=minutes)
        facts = {"at": iso_utc(stand.now), "reason": f"the classifier hangs, at {minutes}"}
        stand.log.put_state("restart", facts, stand.now)
        return stand.look()

    (alert,) = restart(0)
    assert (alert.kind, alert.subject) == ("station", "the service began anew by itself")
    assert "hangs, at 0. Nothing is lost" in alert.body and "trapwatch doctor" in alert.body
    assert restart(10) == restart(20) == []
    stand.now = NOW + timedelta(minutes=61)
    (alert,) = stand.look()
    assert "at 20" in alert.body, "the last one is told when it may be"
    assert stand.look() == []


def test_each_file_that_is_set_aside_is_told_once_until_its_bytes_change(stand: Stand) -> None:
    def dies(name: bytes, size: int) -> None:
        stand.log.count_death(name, FileStamp(size, 1), NOW)

    dies(b"/f/a.jpg", 7)
    assert stand.look() == [], "it is only suspected yet"
    dies(b"/f/a.jpg", 7)
    for _ in range(2):
        dies(b"/f/b.jpg", 7)
    alerts = stand.look()
    assert subjects(alerts) == ["a file was set aside"] * 2
    assert "/f/a.jpg" in alerts[0].body and "/f/b.jpg" in alerts[1].body
    assert stand.look() == []
    for _ in range(2):
        dies(b"/f/a.jpg", 8)
    assert len(stand.look()) == 1


def test_files_set_aside_before_the_first_look_ever_are_not_told(tmp_path: Path) -> None:
    with SpeciesLog(tmp_path / "data" / "trapwatch.db", create=True) as log:
        for _ in range(2):
            log.count_death(b"/f/a.jpg", FileStamp(7, 1), NOW)
    made = make(tmp_path)
    assert made.look() == []
    made.log.close()


def test_a_full_disk_is_told_when_it_begins_and_when_it_is_over() -> None:
    found = {"disk": rules.Trouble("disk", "", 2, "3 MB free")}
    alerts, known, told = rules.trouble_alerts({}, found, ())
    assert [a.subject for a in alerts] == ["disk: trouble"] and alerts[0].body == "3 MB free"
    assert told == ["disk"] and rules.trouble_alerts(known, found, ()) == ([], known, [])
    alerts, known, _ = rules.trouble_alerts(known, {}, ())
    assert [a.subject for a in alerts] == ["disk: well again"] and known == {}


def test_what_gets_worse_is_told_again_and_what_flickers_waits_for_the_cool_down() -> None:
    low = {"disk": rules.Trouble("disk", "", 1, "low")}
    full = {"disk": rules.Trouble("disk", "", 2, "full")}
    _, known, _ = rules.trouble_alerts({}, low, ())
    alerts, known, _ = rules.trouble_alerts(known, full, ())
    assert [a.body for a in alerts] == ["full"]
    assert rules.trouble_alerts({}, low, ("disk",)) == ([], {}, [])
    alerts, _, _ = rules.trouble_alerts({}, low, ())
    assert [a.body for a in alerts] == ["low"], "and is told after it, if it lasts"


def gone(*names: str) -> dict[str, rules.Trouble]:
    troubles = [rules.Trouble("folders", name, 1, f"{name} is gone") for name in names]
    return {trouble.key: trouble for trouble in troubles}


def test_many_troubles_of_one_check_are_one_alert_and_end_one_by_one() -> None:
    (alert,), known, _ = rules.trouble_alerts({}, gone(*(f"/{n}" for n in range(30))), ())
    assert alert.body.endswith("/9 is gone\nand 20 more") and len(known) == 30
    (alert,), known, told = rules.trouble_alerts({"folders|/a": 1}, gone("/b"), ["folders|/b"])
    assert alert.subject == "folders: better" and known == {} and told == ["folders|/a"]
    assert alert.body == "Over: /a\nNot over:\n/b is gone"
    (alert,), _, _ = rules.trouble_alerts({"folders|/a": 1, "folders|/b": 1}, {}, ())
    assert (alert.subject, alert.body) == ("folders: well again", "Over: /a\n/b")


def test_what_was_told_by_an_older_version_is_not_said_to_be_over_while_it_lasts() -> None:
    (alert,), known, _ = rules.trouble_alerts({"folders": 1}, gone("/a"), ())
    assert alert.subject == "folders: trouble" and known == {"folders|/a": 1}


def test_a_second_folder_and_a_lost_gpu_are_told_although_others_were_told_just_now(
    tmp_path: Path,
) -> None:
    stand = make(tmp_path, "watch: {folders: [a, b]}\n")
    first, second = (f"{tmp_path}/{name}: No such file or directory" for name in "ab")
    stand.log.put_state("watch", {"problems": [first]}, stand.now)
    (alert,) = stand.look()
    assert first in alert.body
    stand.now += timedelta(seconds=42)
    stand.log.put_state("watch", {"problems": [first, second]}, stand.now)
    (alert,) = stand.look()
    assert second in alert.body and first not in alert.body
    stand.log.put_state("watch", {"problems": [first, second, f"{tmp_path}/b/x: EIO"]}, stand.now)
    assert stand.look() == [], "a dying disk is told once, not file by file"
    with (tmp_path / "data" / "trapwatch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shaky = {"folder /mnt/x": "hangs"}
        stand.log.put_state("service", {"problems": shaky}, stand.now)
        assert any("/mnt/x" in a.body for a in stand.look())
        stand.log.put_state("service", {"problems": shaky | {"GPU": "is lost"}}, stand.now)
        (alert,) = stand.look()
        assert "GPU: is lost" in alert.body and "/mnt/x" not in alert.body
        assert stand.look() == []
    stand.log.close()


def test_a_failed_backup_is_told_through_the_health(stand: Stand) -> None:
    stand.log.put_state("backup", {"problem": "no such disk"}, stand.now)
    (alert,) = stand.look()
    assert alert.subject == "backup: trouble" and "no such disk" in alert.body
    assert stand.look() == []
    stand.log.put_state("backup", {"problem": None}, stand.now)
    assert stand.look() == [], "within the cool-down"
    stand.now += 2 * HOUR
    assert subjects(stand.look()) == ["backup: well again"]


def test_a_camera_that_fell_silent_is_told_once(stand: Stand) -> None:
    stand.frames(20, ago=timedelta(days=14), apart=720)
    stand.look()
    stand.log.propose_outages(stand.now, stand.settings.effort.rule)
    assert stand.look() == [], "there may be more"
    stand.now += GATHERED
    (alert,) = stand.look()
    assert alert.subject == "camera north is silent" and "2027-04-27" in alert.body
    stand.log.propose_outages(stand.now + timedelta(days=1), stand.settings.effort.rule)
    assert stand.look() == []


def test_cameras_that_never_sent_a_frame_are_one_alert_and_long_gone_ones_none(
    stand: Stand,
) -> None:
    starts = {"new": 5, "newer": 4, "gone": 400}
    rows = [
        DeploymentRow(name, "", start=stand.now - timedelta(days=days)).values()
        for name, days in starts.items()
    ]
    stand.log.set_deployments(rows)
    stand.frames(1, ago=timedelta(days=1), place="old")
    stand.log.set_period("old", stand.now - timedelta(days=300), None, "Ana", "cli", stand.now)
    assert stand.log.propose_outages(stand.now, stand.settings.effort.rule) == (4, 0)
    stand.now += GATHERED
    (alert,) = stand.look()
    assert alert.subject == "2 cameras are silent"
    assert "new: no frame at all since its start, 2027-04-26" in alert.body
    assert "gone" not in alert.body.splitlines()[0] and "old" not in alert.body
    assert stand.look() == []


def test_many_cameras_that_fell_silent_are_one_alert() -> None:
    outages = [
        Outage(n, f"cam{n}", NOW, None, OutageState.PROPOSED, None, None, None, NOW)
        for n in range(30)
    ]
    (alert,) = rules.silent_alerts(outages, ZoneInfo("Africa/Nairobi"))
    assert alert.subject == "30 cameras are silent" and "and 20 more" in alert.body
    at = NOW + timedelta(hours=3)
    assert f"cam0: no frame since {at:%Y-%m-%d %H:%M} EAT" in alert.body, "by the station's clock"


def test_a_camera_given_up_years_ago_is_not_told(stand: Stand) -> None:
    stand.frames(20, ago=timedelta(days=400), apart=720)
    stand.look()
    stand.log.propose_outages(stand.now, stand.settings.effort.rule)
    stand.now += GATHERED
    assert stand.log.outages() and stand.look() == []


def test_kinds_that_nobody_wants_are_left_out(tmp_path: Path) -> None:
    stand = make(tmp_path, "  leave_out: [model]\n")
    publish(stand.log, "v0002")
    assert stand.look() == []
    assert not raise_alert(stand.log, stand.settings, "model", "x", "s", "b", NOW)
    stand.log.close()


def test_an_alert_raised_by_a_part_waits_for_its_cool_down(stand: Stand) -> None:
    def tell(now: datetime) -> bool:
        return raise_alert(stand.log, stand.settings, "station", "gpu", "GPU lost", "…", now)

    assert tell(NOW) and not tell(NOW + timedelta(minutes=59)) and tell(NOW + HOUR)
    assert len(stand.log.alerts(9)) == 2


def test_alerts_of_last_year_are_forgotten_unless_they_still_wait(stand: Stand) -> None:
    long_ago = stand.now - timedelta(days=400)
    sent = stand.log.add_alert("station", "a", "sent", "", ["hook"], long_ago)
    stand.log.delivered(sent, "hook", long_ago)
    stand.log.add_alert("station", "b", "waits", "", ["hook"], long_ago)
    new = stand.log.add_alert("station", "c", "new", "", ["hook"], stand.now)
    stand.log.delivered(new, "hook", stand.now)
    forget_old_alerts(stand)
    assert subjects(stand.log.alerts(9)) == ["new", "waits"]


def test_an_event_without_a_number_is_each_frame_for_itself() -> None:
    def frame(media_id: int, probability: float) -> Sighting:
        at = f"2027-05-01T0{media_id}:00:00.000Z"
        facts = ("p", "s", at, at[:-1], "north", "lynx", probability, Source.PREDICTION)
        return Sighting(media_id, *facts, "v0001", None, None, MediaStatus.CLASSIFIED, None)

    found = rules.seen_in([frame(1, 0.9), frame(2, 0.95), frame(3, 0.5)], 0.8)
    assert [seen.frame.media_id for seen in found] == [2, 1]
