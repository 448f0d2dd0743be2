"""A station to which anything happens in any order: hypothesis chooses what, and the invariants are
asked after each step.

    python -m tests.faults.machine --examples 100 --steps 30
    python -m tests.faults.machine --examples 20 --break labels      must fail

Frames are added, copied, renamed, replaced and removed, cards are pulled and put back, people
label and undo, runs end or are killed at one of their writes. What fails is made as short as
possible and printed as a program.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from monitor.log.engine import choose_sqlite

from .drill import COLOURS, Drill, Zygote, draw_frame
from .losses import losses

CAMERAS = ("north", "south", "west")
SPECIES = tuple(COLOURS)
WRITES = (
    "log.media.MediaQueries.take_in",
    "log.media.MediaQueries.record",
    "log.media.MediaQueries.note_unreadable",
)
WHEN = st.sampled_from(("before", "after"))
FIRST_MOMENT = datetime(2024, 5, 1, 6)
KILLED = -9


class StationMachine(RuleBasedStateMachine):
    """One station, and what must be true of it.

    Attributes:
        zygote: runs the commands; shared by all examples.
    """

    zygote: Zygote

    def __init__(self) -> None:
        super().__init__()
        self.drill = Drill(Path(mkdtemp(prefix="trapwatch-machine-")))
        self.away = self.drill.root / "away"
        self.number = 0
        self.taken_in: set[str] = set()
        self.said: dict[str, list[str]] = {}  # sha256 -> species, the newest label last
        for camera in CAMERAS:
            (self.drill.frames / camera).mkdir()

    def teardown(self) -> None:
        """The end: everything is put back, run once more, and nothing may be missing."""
        for camera in CAMERAS:
            self._mount(camera)
        self.runs_to_its_end()
        shutil.rmtree(self.drill.root)

    @rule(camera=st.sampled_from(CAMERAS), species=st.sampled_from(SPECIES))
    def a_frame_comes(self, camera: str, species: str) -> None:
        """On a card that may lie in a drawer."""
        self.number += 1
        path = self._folder(camera) / f"IMG_{self.number:04}.JPG"
        draw_frame(path, species, FIRST_MOMENT + timedelta(minutes=self.number), self.number)

    @precondition(lambda self: self._files())
    @rule(which=st.integers(0, 999))
    def a_frame_is_copied(self, which: int) -> None:
        """Under another name: the same media."""
        path = self._pick(which)
        self.number += 1
        shutil.copy2(path, path.with_name(f"COPY_{self.number:04}.JPG"))

    @precondition(lambda self: self._files())
    @rule(which=st.integers(0, 999))
    def a_frame_is_renamed(self, which: int) -> None:
        """The same media, elsewhere."""
        path = self._pick(which)
        self.number += 1
        path.rename(path.with_name(f"NEW_{self.number:04}.JPG"))

    @precondition(lambda self: self._files())
    @rule(which=st.integers(0, 999), species=st.sampled_from(SPECIES))
    def a_frame_is_replaced(self, which: int, species: str) -> None:
        """Other bytes under the name: another media; the one before stays in the log."""
        self.number += 1
        at = FIRST_MOMENT + timedelta(minutes=self.number)
        draw_frame(self._pick(which), species, at, self.number)

    @precondition(lambda self: self._files())
    @rule(which=st.integers(0, 999))
    def a_frame_is_removed(self, which: int) -> None:
        """A card is emptied."""
        self._pick(which).unlink()

    @rule(camera=st.sampled_from(CAMERAS))
    def a_card_is_pulled(self, camera: str) -> None:
        """Its folder is gone."""
        if (self.drill.frames / camera).exists():
            self.away.mkdir(exist_ok=True)
            (self.drill.frames / camera).rename(self.away / camera)

    @rule(camera=st.sampled_from(CAMERAS))
    def a_card_is_put_back(self, camera: str) -> None:
        """Its folder is there again."""
        self._mount(camera)

    @rule()
    def runs_to_its_end(self) -> None:
        """All that is there is taken in and classified."""
        assert self._run("run", "--once") == 0, self.drill.output.read_text()[-2000:]
        there = set(self.drill.files().values())
        found = [fault for fault in losses(self.drill) if not _of_a_file_that_went(fault, there)]
        assert not found, found
        self.taken_in |= there

    @rule(place=st.sampled_from(WRITES), when=WHEN, nth=st.integers(1, 3))
    def runs_and_is_killed(self, place: str, when: str, nth: int) -> None:
        """SIGKILL before or after its n-th write at that place, if it comes so far."""
        assert self._run("run", "--once", kill=(place, when, nth)) in (0, KILLED)

    @precondition(lambda self: self._labellable())
    @rule(which=st.integers(0, 999), species=st.sampled_from(SPECIES))
    def a_person_labels(self, which: int, species: str) -> None:
        """It was acknowledged, so it stays."""
        sha = self._known(which)
        assert self._run("label", "set", sha, species, "--by", "Ana", "--new") == 0
        self.said.setdefault(sha, []).append(species)

    @precondition(lambda self: self._labellable())
    @rule(which=st.integers(0, 999), species=st.sampled_from(SPECIES), when=WHEN)
    def a_person_labels_and_it_is_killed(self, which: int, species: str, when: str) -> None:
        """Not acknowledged: whole or not at all."""
        sha = self._known(which)
        kill = ("log.labels.LabelQueries.label", when, 1)
        code = self._run("label", "set", sha, species, "--by", "Ana", "--new", kill=kill)
        assert code == KILLED
        if when == "after":
            self.said.setdefault(sha, []).append(species)

    @precondition(lambda self: any(self.said.values()))
    @rule(which=st.integers(0, 999))
    def a_person_undoes(self, which: int) -> None:
        """The newest label of a media counts no more, the one before does."""
        labelled = sorted(sha for sha, said in self.said.items() if said)
        sha = labelled[which % len(labelled)]
        assert self._run("label", "undo", sha) == 0, self.drill.output.read_text()[-2000:]
        self.said[sha].pop()

    @invariant()
    def nothing_is_lost_or_double(self) -> None:
        """Whatever was once in the log is still in it, once."""
        found = losses(self.drill, settled=False)
        assert not found, found
        there = {row[0] for row in self.drill.query("SELECT sha256 FROM media")}
        assert self.taken_in <= there, f"lost: {self.taken_in - there}"

    @invariant()
    def labels_are_what_people_said(self) -> None:
        """For each media the newest label that was not undone."""
        found = dict(
            self.drill.query(
                "SELECT sha256, species.name FROM media JOIN observation USING (label_id) "
                "JOIN species ON species.id = species_id"
            )
        )
        expected = {sha: said[-1] for sha, said in self.said.items() if said}
        assert found == expected, f"labels are {found}, people said {expected}"

    def _run(self, *arguments: str, kill: tuple[str, str, int] | None = None) -> int:
        return self.zygote.run(self.drill, *arguments, kill=kill)

    def _folder(self, camera: str) -> Path:
        folder = self.drill.frames / camera
        return folder if folder.exists() else self.away / camera

    def _mount(self, camera: str) -> None:
        if (self.away / camera).exists():
            (self.away / camera).rename(self.drill.frames / camera)

    def _files(self) -> list[Path]:
        return sorted(self.drill.frames.rglob("*.JPG"))

    def _pick(self, which: int) -> Path:
        files = self._files()
        return files[which % len(files)]

    def _labellable(self) -> list[str]:
        """Of each file the SHA-256, if its media is in the log since a run that came to its end:
        how far one comes that is killed is not the same each time. Its path may be a new one."""
        found = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self._files()]
        return [sha for sha in found if sha in self.taken_in]

    def _known(self, which: int) -> str:
        found = self._labellable()
        return found[which % len(found)]


def _of_a_file_that_went(fault: str, there: set[str]) -> bool:
    """A media may wait for ever for a file that was removed before it was classified."""
    return fault.startswith("still pending: ") and fault.rsplit(" ", 1)[1] not in there


class Forgetful(StationMachine):
    """The negative control: a station whose log forgets each label at once."""

    def _run(self, *arguments: str, kill: tuple[str, str, int] | None = None) -> int:
        code = super()._run(*arguments, kill=kill)
        if arguments[:2] == ("label", "set"):
            log = choose_sqlite().module.connect(str(self.drill.data / "trapwatch.db"))
            log.execute("UPDATE media SET label_id = NULL")
            log.commit()
            log.close()
        return code


MACHINES = {None: StationMachine, "labels": Forgetful}


def drive(examples: int, steps: int, broken: str | None = None) -> None:
    """Let hypothesis try so many stories of at most so many steps.

    Args:
        broken: the protection to take away first; what fails then is not made short.
    """
    StationMachine.zygote = Zygote()
    try:
        run_state_machine_as_test(
            MACHINES[broken],
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                print_blob=False,
                phases=[Phase.generate] if broken else list(Phase),
            ),
        )
    finally:
        StationMachine.zygote.close()


def main() -> int:
    """Drive it; what is wrong is printed by hypothesis."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--break", dest="broken", choices=["labels"])
    chosen = parser.parse_args()
    drive(chosen.examples, chosen.steps, chosen.broken)
    print(f"{chosen.examples} stories of up to {chosen.steps} steps: nothing lost, nothing double")
    return 0


if __name__ == "__main__":
    sys.exit(main())
