"""`trapwatch deployments` and its outages, from the command line and over the web."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logbook import DAWN, GAP, NOW, frames, item, rows
from reviewers import Web

from monitor.core.moments import NoMoment
from monitor.core.moments import shift_of as shift_written
from monitor.log.clock_corrections import Correction, shift_of
from monitor.web.accounts import Role

SHOWN = "SELECT captured_wall, captured_local, captured_at FROM media ORDER BY path"


@pytest.fixture
def run(run):
    """Runs `trapwatch deployments …`: (exit code, stdout, stderr)."""
    return lambda *words: run("deployments", *words)


def test_the_list_tells_frames_days_outages_and_clocks(log, run, ask):
    frames(log, 4, minutes=1440)
    frames(log, 1, deployment="south")
    assert run("set", "north", "--start", "2026-03-31T08:00")[0] == 0  # 06:00 UTC in Berlin
    ask(
        "outage",
        "add",
        "north",
        "--start",
        "2026-04-02T08:00",
        "--end",
        "2026-04-02T20:00",
        "--reason",
        "battery",
        "--by",
        "Ana",
    )
    north, south = ask("list")
    assert (north["name"], north["media"], south["media"]) == ("north", 4, 1)
    assert north["first_capture"] == "2026-04-01T06:00:00.000Z"
    assert (north["effort"]["watched_days"], north["effort"]["outage_days"]) == (3.5, 0.5)
    assert [o["reason"] for o in north["outages"]] == ["battery"]
    assert south["effort"]["watched_days"] == 0
    (cut,) = (
        d
        for d in ask("list", "--since", "2026-04-03", "--until", "2026-04-03")
        if d["name"] == "north"
    )
    assert cut["effort"]["watched_days"] == 1
    code, out, _ = run("list")
    assert (code, out.splitlines()[1].split("\t")[6:8]) == (0, ["3.5", "1 confirmed"])


def test_a_period_of_a_listed_deployment_is_changed_in_the_list_alone(config, log, run):
    frames(log, 1)
    listed = config.parent / "deployments.csv"
    listed.write_text("deployment,path,start\nnorth,north,2026-03-01\n")
    config.write_text(config.read_text() + f"deployments: {{file: {listed}}}\n")
    code, _, err = run("set", "north", "--end", "2026-05-01")
    assert code == 2
    assert "deployments.csv" in err and "change it there" in err


@pytest.mark.parametrize(
    "words",
    [
        ("set", "nowhere", "--start", "2026-01-01"),
        ("set", "north", "--start", "2026-05-02", "--end", "2026-05-01"),
        ("set", "north"),
        ("shift-time", "nowhere", "--by", "1h"),
        ("shift-time", "north"),
        ("shift-time", "north", "--by", "soon"),
        ("shift-time", "north", "--by", "1h", "--undo"),
        ("shift-time", "north", "--wrong", "2026-01-01"),
        ("shift-time", "north", "--undo"),
        ("shift-time", "north", "--by=-201y"),
        ("outage", "add", "nowhere", "--start", "2026-01-01", "--reason", "battery"),
        ("outage", "add", "north", "--start", "2026-01-01", "--reason", "hunger"),
        ("outage", "dismiss", "99"),
        ("list", "--since", "2026-05-02", "--until", "2026-04-01"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(log, run, words):
    frames(log, 2)
    log_before = rows(log, SHOWN), rows(log, "SELECT count(*) FROM act")
    code, out, err = run(*words)
    assert code in (1, 2) and err and not out
    assert (rows(log, SHOWN), rows(log, "SELECT count(*) FROM act")) == log_before
    assert rows(log, "SELECT count(*) FROM deployment") == [(1,)]


def test_a_wrong_clock_is_corrected_and_what_the_camera_wrote_stays(log, ask, run):
    frames(log, 3)
    before = rows(log, SHOWN)
    dry = ask("shift-time", "north", "--by", "+1d 04:00:00", "--dry-run")
    assert (dry["media"], len(dry["examples"])) == (3, 3)
    assert dry["examples"][0]["after"] == "2026-04-02T10:00:00"
    assert rows(log, SHOWN) == before
    done = ask("shift-time", "north", "--wrong", "2026-04-01 06:00", "--right", "2026-04-02 10:00")
    assert done["examples"] == dry["examples"]
    after = rows(log, SHOWN)
    assert [row[0] for row in after] == [row[0] for row in before]
    assert after[0][1:] == ("2026-04-02T10:00:00", "2026-04-02T10:00:00.000Z")
    log.take_in([item("later.jpg", DAWN + timedelta(days=5))], NOW, GAP)
    assert rows(log, SHOWN)[-1][1] == "2026-04-07T10:00:00", "frames that come later move, too"
    assert "taken back" in run("shift-time", "north", "--undo")[2]
    assert rows(log, SHOWN)[:3] == before
    kinds = [kind for (kind,) in rows(log, "SELECT kind FROM act ORDER BY id")]
    assert kinds == ["shift-time", "shift-time-undo"]


def test_only_frames_of_some_time_move_and_events_are_cut_anew(log, ask):
    """A camera whose clock fell back to 2020 in the middle of its time."""
    good = [item(f"a{n}.jpg", datetime(2026, 4, 1, 6, 10 * n)) for n in range(3)]
    reset = [item(f"b{n}.jpg", datetime(2020, 1, 1, 0, 10 * n)) for n in range(3)]
    log.take_in([*good, *reset], NOW, GAP)
    events = "SELECT count(DISTINCT event_id) FROM media"
    assert rows(log, events) == [(2,)]
    ask(
        "shift-time",
        "north",
        "--wrong",
        "2020-01-01 00:00",
        "--right",
        "2026-04-01 06:30",
        "--until",
        "2020-12-31",
    )
    shown = [row[1] for row in rows(log, SHOWN)]
    assert shown == [f"2026-04-01T06:{m:02d}:00" for m in (0, 10, 20, 30, 40, 50)]
    assert rows(log, events) == [(1,)], "they are one event in truth"
    ask("shift-time", "north", "--undo")
    assert rows(log, events) == [(2,)]


def test_the_list_and_a_person_both_count_and_neither_overwrites_the_other(log, ask):
    frames(log, 1)
    listed = [{"name": "north", "clock_shift_seconds": 3600.0}]
    log.set_deployments(listed)
    ask("shift-time", "north", "--by", "30m")
    for _ in range(2):
        assert rows(log, SHOWN)[0][1] == "2026-04-01T07:30:00"
        log.set_deployments(listed)  # as at every start of the service
    log.set_deployments([{"name": "north", "clock_shift_seconds": 0.0}])
    assert rows(log, SHOWN)[0][1] == "2026-04-01T06:30:00"


def test_outages_are_confirmed_corrected_and_dismissed(log, ask, run):
    frames(log, 2)
    log.propose_outages(datetime(2026, 5, 1, tzinfo=UTC))
    (proposed,) = ask("outage", "list")
    assert (proposed["state"], proposed["by"], proposed["end"]) == ("proposed", None, None)
    said = ask(
        "outage",
        "confirm",
        proposed["id"],
        "--reason",
        "card full",
        "--end",
        "2026-04-20",
        "--by",
        "Ana",
    )
    assert (said["state"], said["reason"], said["end"], said["by"]) == (
        "confirmed",
        "card full",
        "2026-04-20T22:00:00.000Z",  # the end of that day in Berlin
        "Ana",
    )
    said = ask("outage", "dismiss", proposed["id"], "--note", "deep snow")
    assert (said["state"], said["reason"], said["note"]) == ("dismissed", None, "deep snow")
    assert run("outage", "list")[1].splitlines()[1].split("\t")[4] == "dismissed"


def test_help_shows_examples(run):
    for words in (("list",), ("set",), ("shift-time",), ("outage", "add"), ("outage", "confirm")):
        code, out, _ = run(*words, "--help")
        assert code == 0 and "Example" in out


@pytest.mark.parametrize(
    ("text", "shift"),
    [
        ("+3y 2d 04:00:00", timedelta(days=3 * 365 + 2, hours=4)),
        ("-1h", timedelta(hours=-1)),
        ("- 1d 30m", timedelta(days=-1, minutes=-30)),
        ("26:30", timedelta(hours=26, minutes=30)),
        ("2w 5s", timedelta(days=14, seconds=5)),
    ],
)
def test_shifts_as_people_write_them(text, shift):
    assert shift_written(text) == shift


@given(st.text(max_size=12))
def test_what_is_no_shift_is_refused_in_words(text):
    try:
        assert isinstance(shift_written(text), timedelta)
    except NoMoment as error:
        assert "write '+3y" in str(error)


@given(
    st.datetimes(),
    st.floats(-1e11, 1e11),
    st.lists(st.tuples(st.floats(-1e11, 1e11), st.none() | st.datetimes()), max_size=4),
)
def test_corrections_never_leave_the_calendar(wall, base, said):
    steps = [
        Correction("k", seconds, since.isoformat() if since else None) for seconds, since in said
    ]
    assert isinstance(wall + timedelta(seconds=shift_of(wall, base, steps)), datetime)


def test_over_the_web_reviewers_judge_and_viewers_only_look(config):
    web = Web(config)
    try:
        frames(web.log, 2)
        web.log.propose_outages(datetime(2026, 4, 20, tzinfo=UTC))
        ana, guest = web.person("Ana"), web.person("Guest", Role.VIEWER)
        (camera,) = guest.get("/deployments/effort")["deployments"]
        (outage,) = camera["outages"]
        assert (outage["state"], camera["media"]) == ("proposed", 2)
        path = f"/outages/{outage['id']}"
        assert guest.ask("POST", f"{path}/dismiss", {}).status_code == 403
        said = ana.post(f"{path}/confirm", reason="stolen", note="at night")
        assert (said["state"], said["reason"], said["by"]) == ("confirmed", "stolen", "Ana")
        assert ana.post(f"{path}/dismiss")["state"] == "dismissed"
        assert ana.ask("POST", "/outages/99/dismiss", {}).status_code == 404
        assert ana.ask("POST", f"{path}/confirm", {"reason": "hunger"}).status_code == 422
    finally:
        web.close()
