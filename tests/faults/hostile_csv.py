"""CSV files of labels, species and deployments, as hands and other programs spoil them."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from monitor.core.config import load_settings
from monitor.core.domain import How, TrapwatchError, utc_now
from monitor.exchange import labels as labels_page
from monitor.exchange import species as species_page
from monitor.exchange.labels import ImportFailed, ImportReport, LabelRow, import_labels, rows_of_csv
from monitor.exchange.species import SpeciesReport, import_species
from monitor.log.species_log import SpeciesLog
from monitor.pipeline.deployments import COLUMNS as DEPLOYMENTS
from monitor.pipeline.deployments import read_deployments
from monitor.service.station import Station

from .drill import COLOURS, Drill, fill
from .mutate import mutate

PROTECTIONS = ("once",)
"""Saying the same only once."""
FRESH_AFTER = 150
"""So many files share a station; then its log has become long."""
CELLS = (
    "", " ", "\0", "roe deer\0", "=HYPERLINK(1)", "@SUM(A1)", "../../../etc/passwd",
    "/etc/passwd", "/", "..",
    "~", "a" * 300, "x" * 200_000, "-1", "0", "1e9", "9" * 400, "1.5", "\u00bd", "\u0663", "\r",
    "\n", "a\nb", '"', '""',
    '"a', "\ufb00", "\u202eabc", "\u2028", "NULL", "fox,deer", "'; DROP TABLE label;--", "%s{0}",
    "$(id)", "<b>", "\x1b[31m",
    "\ufffd", "\ufeff", "e\u0301", "a/" * 3000, "red fox;roe deer", "RED FOX", "red  fox",
    "rde fox", "\U0001f98a", "\udcff", "\udced\udca0\udc80",
)  # fmt: skip
TIMES = ("2024-05-01", "2024-05-01T06:30", "0001-01-01T00:00+14:00", "9999-12-31", "2024-02-30",
    "1714545000", "24:00",
    "9999-12-31T23:59:59-14:00", "2024-W18-3", "nan", "1e400", "-91", "90", "181", "0", "3e9",
    "-0.0", "+5", "1_0", "inf")  # fmt: skip
LABELS, SPECIES = labels_page.COLUMNS, (*species_page.COLUMNS, "de", "pt-BR")
ACTS = """SELECT m.path, s.name, o.count, o.sex, o.life_stage, o.behaviour, a.by FROM label l
    JOIN act a ON a.id = l.act_id JOIN media m ON m.id = l.media_id
    JOIN observation o ON o.label_id = l.id JOIN species s ON s.id = o.species_id WHERE l.id > ?"""


@dataclass(frozen=True, slots=True)
class Made:
    """A file, and the rows in it that nothing is wrong with, each a path of its own."""

    content: bytes
    good: tuple[tuple[str, str, int], ...] = ()


class Subject:
    """A station that gets one file after the other."""

    def __init__(self, folder: Path, broken: str | None) -> None:
        self._folder, self._here, self._tries = folder, folder / "current", 0
        self._broken = broken
        self._open()

    def attempt(self, rng: random.Random) -> tuple[str, list[str]]:
        """Import one file, and again."""
        self._tries += 1
        if self._tries % FRESH_AFTER == 0:
            self._station.close()
            shutil.rmtree(self._drill.root)
            self._open()
        sort = rng.randrange(10)
        if sort < 6:
            return self._labels(rng)
        return self._species(rng) if sort < 8 else self._deployments(rng)

    def close(self) -> list[str]:
        """The station is closed."""
        self._station.close()
        return []

    def _open(self) -> None:
        self._drill = Drill(self._folder / "station")
        fill(self._drill, each=1, unlabelled=1)
        self._station = Station(load_settings(self._drill.config, {}))
        self._paths = sorted(str(p) for p in self._drill.frames.rglob("*.JPG"))
        for name in COLOURS:  # or a misspelt one comes first, and the right name is asked about
            self._station.log.add_species(name, "hostile", How.CSV, utc_now())

    def _labels(self, rng: random.Random) -> tuple[str, list[str]]:
        made = labels(rng, self._paths)
        file = self._here / "labels.csv"
        file.write_bytes(made.content)
        before = self._drill.number("SELECT coalesce(max(id), 0) FROM label")
        try:
            report = self._import(file)
        except ImportFailed as error:
            said = self._drill.number("SELECT count(*) FROM label WHERE id > ?", before)
            lost = [f"wrong: refused, but {said} labels are in the log"] if said else []
            return f"labels refused: {_few(error)}", [*lost, *_printable(str(error))]
        rows = self._drill.query(ACTS, before)
        faults = list(_against_the_log(self._station.log, self._drill, report, rows, made, before))
        again = self._import(file)
        if again.labelled:
            faults.append(f"double: said again, {again.labelled} labels more")
        if again.said_before != report.labelled + report.said_before:
            faults.append(f"wrong: of {report.labelled} labels {again.said_before} are known")
        return f"labels: {'some told' if report.faults else 'all taken'}", faults

    def _import(self, file: Path) -> ImportReport:
        """As `trapwatch label import` does it."""
        station = self._station

        def say(media_id: int, row: LabelRow) -> tuple[bool, tuple[str, ...]]:
            once = self._broken != "once"
            by = row.by or "hostile"
            outcome = station.log.label(
                [media_id], row.observations, by, How.CSV, utc_now(), once=once
            )
            return bool(outcome.media_ids), outcome.new_species

        def media_of(path: bytes) -> int | None:
            return station.take_in_file(path) or station.log.media_of_path(path)

        return import_labels(rows_of_csv(file), media_of, say)

    def _species(self, rng: random.Random) -> tuple[str, list[str]]:
        file = self._here / "species.csv"
        file.write_bytes(table(rng, SPECIES, _species_row))
        before = len(self._station.log.species())
        try:
            report, again = self._import_species(file), self._import_species(file)
        except ImportFailed as error:
            return f"species refused: {_few(error)}", _printable(str(error))
        faults = [fault for text in report.faults for fault in _printable(text)]
        after = self._station.log.species()
        json.dumps([asdict(row) for row in after], ensure_ascii=False).encode()
        if len(after) - before != report.added:
            faults.append(f"wrong: {report.added} added, {len(after) - before} more on the list")
        if again.added:
            faults.append(f"double: read again, {again.added} species more")
        return f"species: {'some told' if report.faults else 'all taken'}", faults

    def _import_species(self, file: Path) -> SpeciesReport:
        log = self._station.log
        with open(file, newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            return import_species(
                text, lambda rows: log.add_all_species(rows, "hostile", How.CSV, utc_now())
            )

    def _deployments(self, rng: random.Random) -> tuple[str, list[str]]:
        file = self._here / "deployments.csv"
        file.write_bytes(table(rng, DEPLOYMENTS, _deployment_row))
        try:
            rows = read_deployments(file, ZoneInfo("Europe/Berlin"))
        except TrapwatchError as error:
            return "deployments refused", _printable(str(error))
        self._station.log.set_deployments([row.values() for row in rows])
        json.dumps([row.values() for row in rows], ensure_ascii=False, allow_nan=False).encode()
        for row in rows:
            row.covers("north/IMG_0001.JPG", utc_now())
        return "deployments taken", []


def command(folder: Path, rng: random.Random) -> subprocess.CompletedProcess[str]:
    """`trapwatch label import`, `species import`, or `deployments list` with such a file."""
    drill = Drill(folder / "current")
    if not list(drill.frames.rglob("*.JPG")):
        fill(drill, each=1, unlabelled=1)
    file = drill.root / "file.csv"
    sort = rng.randrange(3)
    if sort == 0:
        file.write_bytes(labels(rng, sorted(str(p) for p in drill.frames.rglob("*.JPG"))).content)
        return drill.trapwatch("label", "import", str(file), *rng.choice(((), ("--json",))))
    if sort == 1:
        file.write_bytes(table(rng, SPECIES, _species_row))
        return drill.trapwatch("species", "import", str(file))
    file.write_bytes(table(rng, DEPLOYMENTS, _deployment_row))
    drill.config.write_text(drill.config.read_text() + "\n", encoding="utf-8")
    text = drill.config.read_text().replace("gap_minutes: 30", f"gap_minutes: 30, file: {file}")
    drill.config.write_text(text, encoding="utf-8")
    done = drill.trapwatch("run", "--once")
    drill.configure()
    return done


def labels(rng: random.Random, paths: Sequence[str]) -> Made:
    """A file of labels. Spoiled in its cells, it is a sound CSV file otherwise; or it is not."""
    if rng.random() < 0.5:
        return Made(table(rng, LABELS, lambda rng: _label_row(rng, paths)))
    own = rng.sample(list(paths), rng.randrange(1, 5))
    good = tuple((path, rng.choice(list(COLOURS)), rng.randrange(1, 999_999)) for path in own)
    rows: list[list[str]] = [[path, species, str(n), "", "", "", ""] for path, species, n in good]
    others = [path for path in paths if path not in own]
    rows += [_label_row(rng, others) for _ in range(rng.randrange(5))]
    rng.shuffle(rows)
    return Made(_written([list(LABELS), *rows], rng.choice(("\n", "\r\n"))), good)


def table(rng: random.Random, columns: Sequence[str], row: Any) -> bytes:
    """A file with these columns, spoiled in any way."""
    rows = [row(rng) for _ in range(rng.choice((0, 1, 3, 8)))]
    head, sort = list(columns), rng.randrange(9)
    if sort == 0:
        gone = rng.randrange(len(head))
        head, rows = head[:gone] + head[gone + 1 :], [r[:gone] + r[gone + 1 :] for r in rows]
    elif sort == 1:
        head[rng.randrange(len(head))] = rng.choice((head[0], head[1], head[-1], *CELLS))
    elif sort == 2:
        rows = [
            r[: rng.randrange(len(r))] if rng.random() < 0.5 else r + ["more"] * 9 for r in rows
        ]
    elif sort == 3:
        rows = rows * 3
    content = _written([head, *rows], rng.choice(("\n", "\r\n", "\r")), rng.choice(",,,,;\t"))
    if sort == 4:
        return mutate(content, rng)
    if sort == 5:
        text = content.decode("utf-8", "replace")
        return text.encode(
            rng.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32", "cp500")), "replace"
        )
    if sort == 6:
        at = rng.randrange(len(content) + 1)
        return (
            content[:at] + rng.choice((b'"', b"\0", b"\r", b"\n\n", b"\xff", b",")) + content[at:]
        )
    if sort == 7:
        return rng.choice((b"", b"\n", b"\xef\xbb\xbf", b'"', b"\0" * 5000, b"," * 10**5,
            content * 3,
            b"x" * 10**6 + content, b'"' + content, content.replace(b"\n", b"\r", 2)))  # fmt: skip
    return content


def _label_row(rng: random.Random, paths: Sequence[str]) -> list[str]:
    path = rng.choice([*paths, *(os.path.relpath(p, "/") for p in paths[:1])])
    row = [path, rng.choice(list(COLOURS)), str(rng.randrange(1, 99)), "", "", "", "Ana"]
    for _ in range(rng.choice((0, 1, 1, 2))):
        row[rng.randrange(len(row))] = rng.choice(CELLS)
    return row


def _species_row(rng: random.Random) -> list[str]:
    name = rng.choice((*COLOURS, f"sort {rng.randrange(10**6)} of beast"))
    row = [name, "Vulpes vulpes", "52", "a;b", "dogs", "f", "Fuchs", "raposa"]
    for _ in range(rng.choice((0, 1, 2, 4))):
        row[rng.randrange(len(row))] = rng.choice(CELLS)
    return row


def _deployment_row(rng: random.Random) -> list[str]:
    row = [
        f"d{rng.randrange(9)}",
        f"p{rng.randrange(9)}",
        "52.1",
        "13.2",
        "2024-05-01",
        "2024-06-01",
        "60",
    ]
    for _ in range(rng.choice((0, 0, 1, 2))):
        row[rng.randrange(len(row))] = rng.choice((*CELLS, *TIMES, *TIMES))
    return row


def _written(rows: Sequence[Sequence[str]], end: str, delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, delimiter=delimiter).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _against_the_log(
    log: SpeciesLog,
    drill: Drill,
    report: ImportReport,
    rows: list[tuple[Any, ...]],
    made: Made,
    before: int,
) -> Iterator[str]:
    """What the report says, against what is in the log and what was in the file."""
    labels = drill.number("SELECT count(*) FROM label WHERE id > ?", before)
    if labels != report.labelled:
        yield f"wrong: {report.labelled} labels told, {labels} in the log"
    for text in (*report.faults, *report.new_species, json.dumps(rows, ensure_ascii=False)):
        yield from _printable(text)
    if any(not fault.startswith("line ") for fault in report.faults):
        yield f"wrong: no line is told: {report.faults[:2]}"
    said = {(path, name, count) for path, name, count, *_ in drill.query(ACTS, 0)}
    for path, species, count in made.good:
        name = log.species_named(species)  # an earlier file may have called it otherwise
        if (path, name, count) not in said:
            yield f"lost: {path}, {species} x {count}"


def _printable(text: str) -> list[str]:
    """A message that can be put on a page, and not without end."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return ["wrong: a message that cannot be printed"]
    return [f"wrong: a message of {len(text)} letters"] if len(text) > 100_000 else []


def _few(error: Exception) -> str:
    return " ".join(word for word in str(error).split()[:5] if "/" not in word)
