"""What else was tried, and what it gave: other settings of the same work, measured in turn.

Each variant is compared with what trapwatch does in the same round of the same run. Processor time
is what counts where the machine is shared: wall time x cores is given beside it. Differences of
features are to plain convolutions, and for the decoders to a full decode.

The parts, for --only: winograd, slabs, bfloat16, lanes, openmp, huge-pages, decoders, bursts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench
import numpy as np
import plots
import variants_bursts as bursts
from bench import say
from forward import decoded
from frames import copies, find_originals
from variants_decode import measure_decoders, measure_thumbnails
from variants_forward import GROUPS, measure_settings
from variants_row import Row, table

from monitor.model.backbone import Backbone, BackboneOptions, open_backbone

PARTS = (*GROUPS, "decoders", "bursts")
LARGE_FILES = 20


def _backbone(weights: Path) -> Backbone:
    """trapwatch's own; opening it writes the weights files that all variants read."""
    return open_backbone(BackboneOptions(engine="ncnn", precision="float32", weights_cache=weights))


def measure(
    only: Sequence[str], large: Sequence[bytes], every: Sequence[bytes], rounds: int, work: Path
) -> dict[str, Any]:
    """Everything that is asked for; the rows first."""
    backbone = _backbone(work / "weights")
    folder = work / "frames"
    folder.mkdir()
    np.save(folder / "pixels.npy", decoded(every))
    for number, path in enumerate(copies(large, LARGE_FILES, work / "large")):
        path.rename(folder / f"{number:04d}.JPG")
    rows: list[Row] = []
    found: dict[str, Any] = {"rows": rows}
    if "decoders" in only:
        say("decoders")
        rows += measure_decoders(large, every, backbone, rounds)
        found["thumbnails"] = measure_thumbnails(every)
    if "bursts" in only and (series := bursts.read_series(backbone)):
        say(f"bursts: {len(series)} sequences")
        found["neighbours"] = list(bursts.neighbours(series))
        found["skipping"] = list(bursts.skipping(series))
    backbone.close()
    if settings := [group for group in GROUPS if group in only]:
        rows[:0] = measure_settings(settings, folder, work / "weights", rounds)
    return found


def show(found: dict[str, Any]) -> None:
    """All that was measured."""
    if found["rows"]:
        print(f"\n{table(found['rows'])}")
    if thumbnails := found.get("thumbnails"):
        print(
            f"\nEXIF thumbnails: {thumbnails.having} of {thumbnails.frames} frames have one, "
            f"{thumbnails.sizes}, {thumbnails.bytes_each} bytes; {thumbnails.microseconds} us to "
            f"find and decode, {thumbnails.whole_ms} ms to make one of the whole frame"
        )
    if "skipping" in found:
        bursts.show(found["neighbours"], found["skipping"])


def _plot(axes: Any, rows: Sequence[Row]) -> None:
    """Ratios of processor time; the decoders, a small part of a frame, are in the table."""
    first = {row.group: row.name for row in reversed(rows)}
    compared = [row for row in rows if row.name != first[row.group] and row.group != "decoder"]
    shown = [(f"{row.group}: {row.name}", row.ratio) for row in compared]
    plots.bars(axes, shown, "processor time per frame, trapwatch = 1")
    axes.axvline(1, color="black", linewidth=0.8)


def main() -> None:
    parser = bench.options(__doc__, "python benchmarks/variants.py --rounds 3 --only slabs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="NAME")
    chosen = parser.parse_args()
    load = os.getloadavg()[0]  # of others: they slow down, above all, threads that spin
    with bench.workplace(chosen.work) as work:
        large, about_large = find_originals(8.0, chosen.source)
        every, about = find_originals(0.0, chosen.source)
        say(f"frames: {about}; {about_large} to decode")
        found = measure(chosen.only, large, every, chosen.rounds, work)
    show(found)
    if set(chosen.only) != set(PARTS):
        print("only a part: nothing is saved")
        return
    about_run = {"frames": about, "large_frames": about_large, "rounds": chosen.rounds}
    bench.save(
        "variants",
        {**about_run, "load_before": load, **found},
        "Other ways to do the same, less is faster",
        lambda axes: _plot(axes, found["rows"]),
        chosen.save_in,
        height=5.0,
    )


if __name__ == "__main__":
    main()
