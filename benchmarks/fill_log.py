"""Make a large species log: python benchmarks/fill_log.py LOG.db [--media 1000000].

A believable station: cameras that saw much and cameras that saw little, common and rare species,
bursts, a live model that spoke of everything, labels on one media in twenty. Rows go straight into
the tables (the log's own way in is a transaction a batch, made for cameras and not for millions).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from monitor.core.domain import ModelState, iso_utc
from monitor.log.engine import choose_sqlite
from monitor.log.species_log import SpeciesLog

SPECIES = (
    "blank", "roe deer", "wild boar", "red fox", "badger", "red deer", "hare", "person", "dog",
    "cat", "pine marten", "raccoon", "jay", "blackbird", "squirrel", "hedgehog", "wolf",
    "wild cat", "otter", "lynx",
)  # fmt: skip
START = datetime(2021, 1, 1, tzinfo=UTC)
PAGE = 50_000
MEDIA = (
    "INSERT INTO media (id, sha256, path, size, status, rejected_reason, deployment_id, event_id,"
    " captured_wall, utc_offset_seconds, captured_at_source, utc_offset_source, captured_at,"
    " captured_local, taken_in_at, classified_at, label_id) VALUES"
    " (?, ?, ?, 900000, ?, ?, ?, ?, ?, 0, 'exif', 'station', ?, ?, ?, ?, ?)"
)
FILE = "INSERT INTO file (path_bytes, path, size, mtime_ns, media_id) VALUES (?, ?, 900000, 1, ?)"
PREDICTION = (
    "INSERT INTO prediction (media_id, model_version_id, deployment_id, species_id, probability,"
    " alternatives, at, captured_at, current) VALUES (?, 1, ?, ?, ?, ?, ?, ?, 1)"
)
ACT = "INSERT INTO act (id, at, by, how, kind, scope) VALUES (?, ?, 'Ana', 'cli', 'label', 'frame')"
LABEL = "INSERT INTO label (id, act_id, media_id) VALUES (?, ?, ?)"
OBSERVATION = "INSERT INTO observation (label_id, position, species_id, count) VALUES (?, 0, ?, ?)"


def fill(path: Path, media: int, deployments: int = 100, seed: int = 1) -> None:
    """Make a log of `media` images at `path`, which must not exist yet."""
    with SpeciesLog(path, create=True) as log:
        for name in SPECIES:
            log.add_species(name, "Ana", "cli", START)
        figures = {"accuracy": 0.9}
        name = "v0001"
        log.add_version(name, ModelState.CANDIDATE, "vgg16", "x", "0" * 64, "", figures, START)
        log.go_live(name, "benchmark", "Ana", START)
    connection = choose_sqlite().module.connect(os.fspath(path), isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-400000")
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO deployment (id, name) VALUES (?, ?)",
        [(number, f"camera-{number:03d}") for number in range(1, deployments + 1)],
    )
    rows = _rows(media, deployments, random.Random(seed))
    for start in range(0, media, PAGE):
        _write(connection, [next(rows) for _ in range(min(PAGE, media - start))])
    connection.execute("COMMIT")
    connection.close()


def _rows(media: int, deployments: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Media in order of time; the busiest camera takes about a fifth of all frames."""
    shares = [1 / number for number in range(1, deployments + 1)]
    species_ids = range(1, len(SPECIES) + 1)
    frequency = [1 / number**1.6 for number in species_ids]
    step = timedelta(days=4 * 365) / media
    events: dict[int, tuple[int, datetime]] = {}
    for media_id in range(1, media + 1):
        at = START + step * media_id
        camera = chance.choices(range(1, deployments + 1), shares)[0]
        event, last = events.get(camera, (media_id, START))
        event = event if at - last < timedelta(minutes=30) else media_id
        events[camera] = (event, at)
        species = chance.choices(species_ids, frequency)[0]
        yield {
            "id": media_id,
            "camera": camera,
            "event": event,
            "at": iso_utc(at),
            "species": species,
            "probability": 1 - 0.7 * chance.random() ** 2,
            "labelled": chance.random() < 0.05,
            "rejected": chance.random() < 0.001,
        }


def _write(connection: Any, rows: list[dict[str, Any]]) -> None:
    media, files, predictions, labels = [], [], [], []
    for row in rows:
        number, at, local = row["id"], row["at"], row["at"][:-1]
        path = f"/srv/frames/camera-{row['camera']:03d}/{at[:10]}/IMG_{number:08d}.JPG"
        sha256 = hashlib.sha256(str(number).encode()).hexdigest()
        status = "rejected" if row["rejected"] else "classified"
        reason = "truncated file" if row["rejected"] else None
        label = number if row["labelled"] else None
        facts = (number, sha256, path, status, reason, row["camera"], row["event"], local)
        media.append((*facts, at, local, at, at, label))
        files.append((path.encode(), path, number))
        name, p = SPECIES[row["species"] - 1], row["probability"]
        alternatives = f'[["{name}", {p:.4f}], ["blank", {1 - p:.4f}]]'
        if not row["rejected"]:
            said = (row["species"], p, alternatives, at, at)
            predictions.append((number, row["camera"], *said))
        if label:
            labels.append((number, at, row["species"]))
    connection.executemany(MEDIA, media)
    connection.executemany(FILE, files)
    connection.executemany(PREDICTION, predictions)
    connection.executemany(ACT, [(1000 + n, at) for n, at, _ in labels])
    connection.executemany(LABEL, [(n, 1000 + n, n) for n, _, _ in labels])
    connection.executemany(OBSERVATION, [(n, species, 1) for n, _, species in labels])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--media", type=int, default=1_000_000)
    parser.add_argument("--deployments", type=int, default=100)
    args = parser.parse_args()
    start = time.perf_counter()
    fill(args.log, args.media, args.deployments)
    size = args.log.stat().st_size / 1e6
    print(f"{args.media:,} media in {time.perf_counter() - start:.0f} s, {size:,.0f} MB")


if __name__ == "__main__":
    main()
