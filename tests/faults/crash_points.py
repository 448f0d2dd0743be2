"""Every place of monitor/ that commits or renames, and the shortest story that reaches it."""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import monitor
from monitor.log.engine import choose_sqlite

from .drill import Drill, Zygote, fill

Story = Callable[[Drill, Zygote], None]


def places_in_code(package: Path = Path(monitor.__file__).parent) -> set[str]:
    """Functions that open a write transaction, commit by hand, or rename a file."""
    found: set[str] = set()
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {f"{module}.{name}" for name in _writing_functions(tree, "")}
    return found - {"log.connection.LogPart._write", "log.connection.LogPart._read"}


def _writing_functions(node: ast.AST, name: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _writing_functions(child, f"{name}{child.name}.")
        elif isinstance(child, ast.FunctionDef):
            if any(_writes(inner) for inner in ast.walk(child)):
                yield f"{name}{child.name}"
        else:
            yield from _writing_functions(child, name)


def _writes(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    called, owner = node.func.attr, node.func.value
    if called in ("_write", "begin", "commit"):
        return True
    if any(isinstance(a, ast.Constant) and a.value == "COMMIT" for a in node.args):
        return True
    if called in ("replace", "rename", "renames", "move", "link"):
        of_system = isinstance(owner, ast.Name) and owner.id in ("os", "shutil")
        return of_system or (len(node.args) == 1 and not node.keywords)  # Path.replace(target)
    return False


@dataclass(frozen=True, slots=True)
class Scenario:
    """How a place is reached.

    Attributes:
        base: the state to start from, a key of `BASES`.
        arguments: the command that is killed there; {root} is the drill's folder.
        prepare: what is done to the state before.
        repeat_after: repeat the command also if it was killed after this write: it goes on.
        times: kill at the first, second … time that the place is reached.
        breaks_model: the live model is damaged, which only the write itself says in the log.
    """

    base: str
    arguments: tuple[str, ...]
    prepare: Story = lambda drill, zygote: None
    repeat_after: bool = True
    times: tuple[int, ...] = (1,)
    breaks_model: bool = False


def _once(drill: Drill, zygote: Zygote, *arguments: str) -> None:
    code = zygote.run(drill, *arguments)
    assert code == 0, f"{arguments}: exit status {code}\n{drill.output.read_text()[-3000:]}"


def _fresh(drill: Drill, zygote: Zygote) -> None:
    fill(drill, each=3, unlabelled=1)


def _seen(drill: Drill, zygote: Zygote) -> None:
    _once(drill, zygote, "run", "--once")


def _labelled(drill: Drill, zygote: Zygote) -> None:
    _once(drill, zygote, "label", "import-folder", str(drill.sorted))


def _gated(drill: Drill, zygote: Zygote) -> None:
    _once(drill, zygote, "train", "--force")


def _twice(drill: Drill, zygote: Zygote) -> None:
    _once(drill, zygote, "run", "--once")
    _once(drill, zygote, "train", "--force")
    _once(drill, zygote, "models", "promote", "v0002")
    _once(drill, zygote, "run", "--once")


BASES: dict[str, tuple[str | None, Story]] = {
    "fresh": (None, _fresh),
    "seen": ("fresh", _seen),
    "labelled": ("seen", _labelled),
    "gated": ("labelled", _gated),
    "twice": ("gated", _twice),
}
"""State -> (the state it is made from, how)."""


def _hide_a_frame(drill: Drill, zygote: Zygote) -> None:
    """A frame that was taken in, could not be found to be classified, and came back."""
    zygote.run(drill, "run", "--once", kill=("log.media.MediaQueries.record", "before", 1))
    frame = drill.frames / "north" / "IMG_0003.JPG"  # not in the first batch
    away = drill.root / frame.name
    os.rename(frame, away)
    _once(drill, zygote, "run", "--once")
    assert drill.number("SELECT count(*) FROM media WHERE absent_since IS NOT NULL") == 1
    os.rename(away, frame)


def _unreadable(drill: Drill, zygote: Zygote) -> None:
    os.symlink("/proc/self/mem", drill.frames / "west" / "unreadable.jpg")  # EIO, for root too


def _readable_no_more(drill: Drill, zygote: Zygote) -> None:
    _unreadable(drill, zygote)
    _once(drill, zygote, "run", "--once")
    assert drill.number("SELECT count(*) FROM file WHERE problem IS NOT NULL") == 1
    (drill.frames / "west" / "unreadable.jpg").unlink()


def _wider_events(drill: Drill, zygote: Zygote) -> None:
    drill.configure(gap=60)


def _words_of_an_older_release(drill: Drill, zygote: Zygote) -> None:
    """Superseded predictions of the species that is shown: each re-score once left them."""
    connection = choose_sqlite().module.connect(str(drill.data / "trapwatch.db"), timeout=30)
    with connection:
        connection.execute(
            "INSERT INTO prediction (media_id, model_version_id, deployment_id, species_id,"
            " probability, alternatives, at, captured_at, current)"
            " SELECT p.media_id, v.id, p.deployment_id, p.species_id, p.probability,"
            " p.alternatives, p.at, p.captured_at, 0 FROM prediction p"
            " JOIN model_version v ON v.name = 'v0001' AND v.id <> p.model_version_id"
            " WHERE p.current = 1 ON CONFLICT DO NOTHING"
        )
    connection.close()


def _an_older_log(drill: Drill, zygote: Zygote) -> None:
    """Somebody put an old copy in the place of the log: only the journal has the labels since."""
    log, copy = drill.data / "trapwatch.db", drill.root / "older.db"
    _once(drill, zygote, "backup", str(copy))
    _once(drill, zygote, "label", "import-folder", str(drill.sorted))
    for suffix in ("-wal", "-shm"):
        Path(f"{log}{suffix}").unlink(missing_ok=True)
    os.replace(copy, log)


def _a_label_that_changed(drill: Drill, zygote: Zygote) -> None:
    """By nobody's act: the log is damaged, although SQLite sees nothing."""
    log = str(drill.data / "trapwatch.db")
    connection = choose_sqlite().module.connect(log, isolation_level=None)
    connection.execute("DROP TRIGGER observation_is_never_changed")
    connection.execute("UPDATE observation SET count = 7 WHERE label_id = 1")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def _others_write_into_another_log(drill: Drill, zygote: Zygote) -> None:
    _once(drill, zygote, "replace-log")
    _once(drill, zygote, "label", "set", "1", "roe deer")
    _once(drill, zygote, "label", "undo")


def _kill_a_training(drill: Drill, zygote: Zygote) -> None:
    place = "log.runs.RunQueries.run_progress"
    assert zygote.run(drill, "train", "--force", kill=(place, "after", 2)) == -9


def _die_while_reading(drill: Drill, zygote: Zygote) -> None:
    """Two runs that were killed: the second was careful, and left its marker at a frame."""
    for _ in range(2):
        place = "log.media.MediaQueries.take_in"
        assert zygote.run(drill, "run", "--once", kill=(place, "before", 1)) == -9


def _corrected(drill: Drill, zygote: Zygote) -> None:
    _once(drill, zygote, "deployments", "shift-time", "north", "--by", "1h")


def _silent(drill: Drill, zygote: Zygote) -> None:
    _once(drill, zygote, "propose")


def _a_damaged_model(drill: Drill, zygote: Zygote) -> None:
    head = drill.data / "models" / "v0002" / "head.safetensors"
    content = bytearray(head.read_bytes())
    content[-1] ^= 1
    head.chmod(0o644)
    head.write_bytes(content)


def _backed_up(drill: Drill, zygote: Zygote) -> None:
    _once(drill, zygote, "backup", str(drill.root / "backup.db"))


def _a_copy_beside_a_backup(drill: Drill, zygote: Zygote) -> None:
    _backed_up(drill, zygote)
    _once(drill, zygote, "replace-log")


ONCE, TRAIN = ("run", "--once"), ("train", "--force")
REVIEW = Scenario("seen", ("review",))
TELL = Scenario("seen", ("tell",))
SCENARIOS: dict[str, Scenario] = {
    "cli.sightings.write_csv": Scenario("seen", ("sightings", "--csv", "{root}/out.csv")),
    "cli.demo.world._write": Scenario("fresh", ("render", "{root}/frames")),
    "system.files.write_whole": Scenario(
        "fresh", ("write-weights", "{root}/data/weights/w.safetensors")
    ),
    "log.deployment_acts.DeploymentActs.correct_clock": Scenario(
        "seen", ("deployments", "shift-time", "north", "--by", "1h"), repeat_after=False
    ),
    "log.deployment_acts.DeploymentActs.judge_outage": Scenario(
        "seen", ("deployments", "outage", "dismiss", "1"), _silent
    ),
    "log.deployment_acts.DeploymentActs.say_outage": Scenario(
        "seen",
        ("deployments", "outage", "add", "north", "--start", "2024-05-02", "--reason", "battery"),
    ),
    "log.deployment_acts.DeploymentActs.set_period": Scenario(
        "seen", ("deployments", "set", "north", "--start", "2024-04-01")
    ),
    "log.deployment_acts.DeploymentActs.undo_clock": Scenario(
        "seen", ("deployments", "shift-time", "north", "--undo"), _corrected, repeat_after=False
    ),
    "log.effort.EffortQueries.propose_outages": Scenario("seen", ("propose",)),
    "log.engine.migrate": Scenario("fresh", ONCE),
    "log.features.FeatureStore.put": Scenario("fresh", ONCE, times=(1, 3)),
    "log.act_records.ActQueries.reserve_ids": Scenario("seen", ONCE, _an_older_log),
    "log.labels.LabelQueries.label": Scenario(
        "seen", ("label", "import-folder", "{root}/sorted"), times=(1, 7)
    ),
    "log.alerts.AlertQueries.add_alert": TELL,
    "log.alerts.AlertQueries.add_alerts": TELL,
    "log.alerts.AlertQueries._note": TELL,
    "log.alerts.AlertQueries.wake_deliveries": TELL,
    "log.alerts.AlertQueries.drop_waiting": TELL,
    "log.alerts.AlertQueries.drop_old_alerts": TELL,
    "log.undoing.UndoQueries.undo": Scenario("labelled", ("label", "undo"), repeat_after=False),
    "log.learning.LearningQueries.add_split": Scenario("labelled", TRAIN, repeat_after=False),
    "log.learning.StatusQueries.change_state": Scenario("fresh", ONCE),
    "log.learning.StatusQueries.identity": Scenario("fresh", ONCE),
    "log.learning.StatusQueries.put_state": Scenario("fresh", ONCE, times=(1, 2)),
    "log.media_ids.MediaIdQueries.skip_media_ids": Scenario("seen", ONCE, _an_older_log),
    "log.media.MediaQueries.forget_unreadable": Scenario(
        "fresh", ("housekeeping",), _readable_no_more
    ),
    "log.media.MediaQueries.mark_found": Scenario("fresh", ONCE, _hide_a_frame),
    "log.media.MediaQueries.note_unreadable": Scenario("fresh", ONCE, _unreadable),
    "log.media.MediaQueries.record": Scenario("fresh", ONCE, times=(1, 2, 5)),
    "log.media.MediaQueries.regroup_events": Scenario("seen", ONCE, _wider_events),
    "log.media.MediaQueries.set_deployments": Scenario("fresh", ONCE),
    "log.media.MediaQueries.take_in": Scenario("fresh", ONCE),
    "log.crashing_files.PoisonQueries.clear_of_suspicion": Scenario(
        "fresh", ONCE, _die_while_reading
    ),
    "log.crashing_files.PoisonQueries.count_death": Scenario("fresh", ONCE, _die_while_reading),
    "log.predictions.PredictionQueries.drop_unchanged_history": Scenario(
        "twice", ("housekeeping",), _words_of_an_older_release
    ),
    "log.predictions.PredictionQueries.rescore": Scenario("gated", ONCE),
    "log.replaying.ReplayQueries.replay_acts": Scenario("seen", ONCE, _an_older_log),
    "log.reviewing.ReviewQueries.flag": REVIEW,
    "log.reviewing.ReviewQueries.lease": REVIEW,
    "log.reviewing.ReviewQueries.release": REVIEW,
    "log.reviewing.ReviewQueries.reveal": REVIEW,
    "log.species_list.SpeciesQueries.add_all_species": Scenario(
        "seen", ("species", "add", "lynx", "--name", "de=Luchs")
    ),
    "log.species_list.SpeciesQueries.merge_species": Scenario(
        "labelled", ("species", "merge", "red fox", "roe deer"), repeat_after=False
    ),
    "log.species_list.SpeciesQueries.rename_species": Scenario(
        "labelled", ("species", "rename", "red fox", "fox"), repeat_after=False
    ),
    "log.backup.write_backup": Scenario("seen", ("backup", "{root}/backup.db"), repeat_after=False),
    "log.restore.put_in_place": Scenario(
        "labelled", ("restore", "{root}/backup.db", "--yes"), _backed_up, times=(1, 2)
    ),
    "log.runs.RunQueries.close_interrupted_runs": Scenario("labelled", TRAIN, _kill_a_training),
    "log.runs.RunQueries.finish_run": Scenario("labelled", TRAIN, repeat_after=False),
    "log.runs.RunQueries.run_progress": Scenario(
        "labelled", TRAIN, repeat_after=False, times=(1, 3)
    ),
    "log.runs.RunQueries.start_run": Scenario("labelled", TRAIN, repeat_after=False),
    "log.versions.VersionQueries.add_version": Scenario("labelled", TRAIN, repeat_after=False),
    "log.versions.VersionQueries.go_live": Scenario("labelled", TRAIN, repeat_after=False),
    "log.versions.VersionQueries.fall_back": Scenario(
        "twice", ONCE, _a_damaged_model, breaks_model=True
    ),
    "log.versions.VersionQueries.roll_back": Scenario(
        "twice", ("models", "rollback"), repeat_after=False
    ),
    "images.picture_folder._write": Scenario("seen", ("keep-picture", "{root}/data/pictures")),
    "recovery.replaced_log.save_what_is_open": Scenario("labelled", ("replace-log",)),
    "log.species_log.SpeciesLog.set_side_files_aside": Scenario("labelled", ("replace-log",)),
    "recovery.replaced_log.choose_log": Scenario("labelled", ONCE, _others_write_into_another_log),
    "recovery.replaced_log.forget_copy": Scenario(
        "labelled", ("restore", "{root}/backup.db", "--yes"), _a_copy_beside_a_backup
    ),
    "log.restore.set_aside": Scenario("labelled", ONCE, _a_label_that_changed),
    "model.versions._write_whole": Scenario("labelled", TRAIN, repeat_after=False),
}
"""Place -> how it is reached. The test compares the keys with what the code holds."""


class Bases:
    """The states to start from, each made once, always at the same place (paths are in the log)."""

    def __init__(self, folder: Path, zygote: Zygote) -> None:
        self._folder, self._zygote = folder, zygote
        self._station = folder / "station"

    def station(self, base: str) -> Drill:
        """A station in this state."""
        kept = self._folder / base
        if not kept.exists():
            before, story = BASES[base]
            drill = self.station(before) if before else Drill(self._empty())
            story(drill, self._zygote)
            shutil.copytree(self._station, kept)
        shutil.copytree(kept, self._empty(), dirs_exist_ok=True)
        return Drill(self._station)

    def _empty(self) -> Path:
        shutil.rmtree(self._station, ignore_errors=True)
        self._station.mkdir(parents=True)
        return self._station
