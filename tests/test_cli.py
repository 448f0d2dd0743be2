"""The command line as scripts and stations rely on it."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from field import jpeg
from logbook import NOW, frames, publish

from monitor.cli import main
from monitor.cli.app import UsageError, app, moment_of, who
from monitor.cli.sightings import write_csv
from monitor.core.config import load_settings
from monitor.log.species_log import open_log

PINNED = """run; sightings; label set; label undo; label import; label import-folder;
    label queue; label set-group; species list; species add; species rename;
    species merge; species import; events; train; models list; models show;
    models promote; models rollback; status; doctor; weights fetch; weights verify;
    config check; backup; restore; demo; web password; web token; web people; web remove;
    report; install-service; alerts list; alerts test; deployments list; deployments set;
    deployments shift-time; deployments outage list; deployments outage add;
    deployments outage confirm; deployments outage dismiss"""
COMMANDS = [" ".join(command.split()) for command in PINNED.split(";")]
HEAVY = ("tensorflow", "keras", "numpy", "alembic", "PIL", "apscheduler", "watchdog", "rich")


class Station:
    """A station's command line: `run` gives (exit code, stdout, stderr)."""

    def __init__(self, config: Path, monkeypatch, capfd) -> None:
        self.config, self._patch, self._capture = config, monkeypatch, capfd

    def run(self, *words: object) -> tuple[int, str, str]:
        arguments = ["trapwatch", *map(str, words), "--config", str(self.config)]
        self._patch.setattr(sys, "argv", arguments)
        self._capture.readouterr()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = error.code or 0
        out, err = self._capture.readouterr()
        return code, out, err

    def ok(self, *words: object) -> str:
        code, out, err = self.run(*words)
        assert code == 0, err
        return out

    def json(self, *words: object):
        return json.loads(self.ok(*words, "--json"))


@pytest.fixture
def empty(config, monkeypatch, capfd):
    """A station without a log."""
    return Station(config, monkeypatch, capfd)


@pytest.fixture
def station(empty, filled):
    """A station with something in every table."""
    return empty


def commands(group: typer.core.TyperGroup, path: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def test_the_command_tree_is_the_pinned_one():
    assert sorted(name for name, _ in commands(typer.main.get_command(app))) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_that_starts_with_it(name, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["trapwatch", *name.split(), "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    out = capfd.readouterr().out
    assert ended.value.code == 0
    assert re.search(rf"Example:\s+trapwatch {name}", re.sub(r"\s+", " ", out))


def test_sightings_imports_nothing_heavy(filled, config):
    code = (
        "import sys; from monitor.cli import main\n"
        "try: main()\nfinally: print([m for m in sys.argv[-1].split(',') if m in sys.modules],"
        " file=sys.stderr)"
    )
    words = ["sightings", "--config", str(config), "--deployment", ",".join(HEAVY)]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"
    assert done.stdout.startswith("id\tcaptured\tdeployment")


def test_the_program_runs_as_a_module_and_as_a_command(config):
    for program in ([sys.executable, "-m", "monitor"], [Path(sys.executable).parent / "trapwatch"]):
        done = subprocess.run([*program, "config", "check", "--config", config], check=False)
        assert done.returncode == 0
        wrong = subprocess.run([*program, "nonsense"], capture_output=True, check=False)
        assert wrong.returncode == 2


def test_exit_codes_are_0_done_1_failed_2_wrong_usage(station, tmp_path):
    assert station.run("species", "list")[0] == 0
    code, out, err = station.run("sightings", "--species", "zebra")
    assert (code, out) == (1, "")
    assert err.startswith("trapwatch: no species answers to 'zebra'")
    for words in (
        ("sightings", "--nonsense"),
        ("sightings", "--since", "yesterday"),
        ("sightings", "--limit", "0"),
        ("sightings", "--json", "--csv", tmp_path / "x.csv"),
        ("label", "set", "1", "fox:many"),
        ("species", "add", "x", "--name", "Fuchs"),
        ("nonsense",),
    ):
        code, out, err = station.run(*words)
        assert (code, out) == (2, ""), words
        assert err
    station.config.write_text("wach: {}")
    code, out, err = station.run("sightings")
    assert code == 2
    assert "wach: unknown key; the nearest known one is 'watch'" in err


def test_without_a_log_every_question_says_how_to_start(empty):
    for words in (["sightings"], ["label", "undo"], ["models", "list"], ["events"], ["status"]):
        code, out, err = empty.run(*words)
        assert (code, out) == (1, "")
        assert "start one with: trapwatch run" in err


def test_json_prints_one_document_and_nothing_else(station):
    for words in (
        ["sightings"],
        ["events"],
        ["label", "queue"],
        ["species", "list"],
        ["models", "list"],
        ["status"],
    ):
        code, out, err = station.run(*words, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)
    assert json.loads(station.ok("sightings", "--deployment", "nowhere", "--json")) == []


def test_a_sighting_as_json_has_the_promised_fields(station):
    first = next(s for s in station.json("sightings") if s["media_id"] == 1)
    promised = """media_id path sha256 captured_at captured_local deployment species probability
        source model_version alternatives observations event_id status rejected_reason novelty
        box"""
    assert set(promised.split()) <= set(first)
    assert first["species"] == "red fox"
    assert first["source"] == "label"
    assert first["observations"][0] == {
        "species": "red fox",
        "count": 2,
        "sex": "female",
        "life_stage": "adult",
        "behaviour": "foraging",
    }


def test_a_table_in_a_pipe_is_parted_by_tabs(station):
    lines = station.ok("sightings", "--limit", "2").splitlines()
    assert lines[0].split("\t") == ["id", "captured", "deployment", "species", "p", "by", "path"]
    assert [len(line.split("\t")) for line in lines] == [7, 7, 7]


def test_until_counts_a_day_whole_in_the_stations_zone(station):
    days = {s["captured_local"][:10] for s in station.json("sightings", "--until", "2026-04-01")}
    assert days == {"2026-04-01"}
    assert station.json("sightings", "--until", "2026-03-31") == []
    assert station.json("sightings", "--since", "2026-04-02") == []
    assert len(station.json("sightings", "--since", "2026-04-01")) == 11


@pytest.mark.parametrize(
    ("text", "end", "moment"),
    [
        ("2026-05-01", False, "2026-04-30T22:00:00.000Z"),
        ("2026-05-01", True, "2026-05-01T22:00:00.000Z"),
        ("20260501", True, "2026-05-01T22:00:00.000Z"),
        ("2026-10-25", True, "2026-10-25T23:00:00.000Z"),
        ("2026-05-01T18:30", True, "2026-05-01T16:30:00.000Z"),
        ("2026-05-01T18:30Z", True, "2026-05-01T18:30:00.000Z"),
        ("0001-02-01", False, "0001-01-31T23:06:32.000Z"),
    ],
)
def test_a_day_or_time_is_read_where_the_station_is(config, text, end, moment):
    assert moment_of(text, load_settings(config, {}).station.zone, end=end) == moment


@pytest.mark.parametrize(
    "text", ["", "x", "²d", "99999999d", "9999-12-31", "0001-01-01T00:00", "7 d"]
)
def test_what_is_no_time_is_refused(config, text):
    with pytest.raises(UsageError, match="is no time"):
        moment_of(text, load_settings(config, {}).station.zone, end=True)


def test_an_age_counts_back_from_now(config):
    zone = load_settings(config, {}).station.zone
    assert moment_of("7d", zone) < moment_of("12h", zone) < moment_of("0d", zone)
    assert moment_of(None, zone) is None


def test_min_probability_keeps_labels_and_unreviewed_leaves_them_out(station):
    assert {s["source"] for s in station.json("sightings", "--min-probability", "0.99")} == {
        "label"
    }
    shown = station.json("sightings", "--unreviewed")
    assert "label" not in {s["source"] for s in shown}
    assert "rejected" not in {s["status"] for s in shown}


def test_csv_holds_the_same_as_json(station, tmp_path):
    target = tmp_path / "out.csv"
    assert station.ok("sightings", "--csv", target) == ""
    with open(target, newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    shown = station.json("sightings")
    assert [row["media_id"] for row in read] == [str(s["media_id"]) for s in shown]
    assert [json.loads(row["observations"]) for row in read] == [s["observations"] for s in shown]
    assert station.ok("sightings", "--csv", "-").splitlines()[0] == ",".join(read[0])
    assert station.ok("events", "--csv", "-").startswith("event_id,deployment,start")


def test_a_csv_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    def rows():
        yield {"a": 1}
        raise RuntimeError

    target = tmp_path / "out.csv"
    target.write_text("before")
    with pytest.raises(RuntimeError):
        write_csv(target, ["a"], rows())
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]
    assert target.read_text() == "before"
    with pytest.raises(UsageError, match="cannot be written"):
        write_csv(tmp_path / "none" / "x.csv", ["a"], [])
    write_csv(Path("/dev/null"), ["a"], [{"a": 1}])
    assert Path("/dev/null").is_char_device()


def test_events_are_listed_and_found_by_species(station):
    events = station.json("events")
    assert sum(event["frames"] for event in events) == 10
    assert [e["species"] for e in station.json("events", "--species", "badger")] == ["badger"]
    assert len(station.json("events", "--limit", "1")) == 1
    assert "red fox" in station.ok("events")


def test_a_label_is_set_corrected_and_undone(station):
    code, out, err = station.run("label", "set", "3", "Roe Deer:2", "hare", "--sex", "male")
    assert (code, out) == (0, "")
    assert "Roe Deer x 2, hare" in err
    assert "new species on the list: Roe Deer" in err
    code, _, err = station.run("label", "set", "3", "roe dear")
    assert code == 1
    assert "'roe deer' is; write that, or insist on a new species with --new" in err
    station.ok("label", "set", "3", "roe dear", "--new", "--by", "Ben")
    assert {s["labelled_by"] for s in station.json("sightings") if s["media_id"] == 3} == {"Ben"}
    code, _, err = station.run("label", "undo", "3")
    assert code == 0
    assert "Roe Deer x 2, hare" in err
    station.ok("label", "undo")
    code, _, err = station.run("label", "undo", "3")
    assert code == 1
    assert "no label to undo" in err


def test_an_event_label_reaches_every_frame_of_the_visit(station):
    _, _, err = station.run("label", "set", "4", "hare", "--event")
    assert err.count("hare") >= 6


def test_the_species_list_is_kept_from_the_command_line(station, tmp_path):
    station.ok("species", "add", "lynx", "--scientific", "Lynx lynx", "--name", "de=Luchs")
    station.ok("species", "rename", "lynx", "Eurasian lynx")
    station.ok("species", "merge", "badger", "Eurasian lynx")
    listed = {row["name"]: row for row in station.json("species", "list")}
    assert "badger" in listed["Eurasian lynx"]["aliases"]
    assert "Lynx lynx" in station.ok("species", "list")
    file = tmp_path / "list.csv"
    file.write_bytes(
        b"species,scientific_name,key,aliases,de\n"
        b"otter,Lutra lutra,2433753,river otter;sea dog,Otter\n,,,,\nw\xf6lf,,,,\nhare,,,luchs,\n"
    )
    code, _, err = station.run("species", "import", file)
    assert code == 1
    assert [f"line {n}" in err for n in (2, 3, 4, 5)] == [False, True, True, True]
    assert "otter" in {row["name"] for row in station.json("species", "list")}
    file.write_text("name\nx\n")
    assert station.run("species", "import", file)[0] == 2
    assert station.run("species", "import", tmp_path / "none")[0] == 2


def test_labels_are_imported_from_csv_and_folders_with_files_the_log_did_not_know(empty, tmp_path):
    frames_folder = tmp_path / "frames" / "north"
    frames_folder.mkdir()
    for n in range(3):
        (frames_folder / f"{n}.jpg").write_bytes(jpeg(n))
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "path,species,count\nframes/north/0.jpg,fox,2\nframes/north/1.jpg,hare,\nnone.jpg,fox,\n"
    )
    code, out, err = empty.run("label", "import", labels, "--json")
    report = json.loads(out)
    assert (code, report["labelled"], report["said_before"]) == (1, 2, 0)
    assert report["faults"] == [f"line 4: no such file, and none known: {tmp_path}/none.jpg"]
    code, _, err = empty.run("label", "import", labels)
    assert code == 1
    assert "0 media labelled, 2 had been said before, 1 could not be used" in err
    sorted_folder = tmp_path / "sorted" / "wild_boar"
    sorted_folder.mkdir(parents=True)
    (sorted_folder / "copy.jpg").write_bytes(jpeg(2))
    assert empty.json("label", "import-folder", tmp_path / "sorted")["labelled"] == 1
    species = {s["path"].rsplit("/", 1)[1]: s["species"] for s in empty.json("sightings")}
    assert species == {"0.jpg": "fox", "1.jpg": "hare", "copy.jpg": "wild boar"}
    assert empty.run("label", "import", tmp_path / "none.csv")[0] == 1


def test_model_versions_are_listed_and_rolled_back_only_where_there_is_one(station):
    assert station.json("models", "list")[0]["state"] == "live"
    assert "v0001" in station.ok("models", "list")
    code, _, err = station.run("models", "rollback")
    assert code == 1
    assert "the first live model" in err
    code, _, err = station.run("models", "show", "v0009")
    assert code == 1
    assert "no model version 'v0009'" in err
    for words in (("show", "v0001"), ("promote", "v0001")):  # its files are gone
        code, _, err = station.run("models", *words)
        assert code == 1, words
        assert "cannot be read" in err


def test_a_backup_is_made_once(station, tmp_path):
    station.ok("backup", tmp_path / "copy.db")
    assert station.run("backup", tmp_path / "copy.db")[0] == 1
    assert station.run("backup", tmp_path / "usb" / "copy.db")[0] == 1


def test_the_newest_fifty_are_shown_and_more_are_offered(empty, log):
    frames(log, 60)
    log.checkpoint()
    _, out, err = empty.run("sightings")
    assert len(out.splitlines()) == 51
    assert "--limit N" in err


def test_names_with_bytes_that_are_no_text_do_no_harm(station):
    assert station.ok("sightings", "--deployment", "\udcff", "--json") == "[]\n"
    assert station.run("sightings", "--species", "\udcff")[0] == 1
    assert station.run("label", "set", "\udcff.jpg", "fox")[0] == 1
    assert station.run("label", "set", "1", "\udcff")[0] == 1
    assert station.ok("label", "set", "1", "fox", "--by", "\udcff") == ""
    assert who(" Ana ") == "Ana"
    assert who("  ")


def test_the_version_is_told(empty, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["trapwatch", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert re.fullmatch(r"\d+\.\d+.*\n", capfd.readouterr().out)


def test_a_reader_that_goes_away_is_no_reason_to_complain(filled, config):
    command = f"{sys.executable} -m monitor sightings --config {config} --json | head -c 5"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b'[\n{"m', b"")


def test_two_versions_and_a_way_back(station):
    with open_log(load_settings(station.config, {}).database.url) as log:
        publish(log, "v0002")
        assert log.roll_back("Ana", NOW) == "v0001"
        assert log.live_version().name == "v0001"
