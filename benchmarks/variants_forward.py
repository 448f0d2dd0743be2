"""Other ways to run the same VGG16 in ncnn, each in a process of its own.

benchmarks/variants.py calls `measure_settings`; as a command it measures one setting in a folder
that was prepared for it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from bench import cores, say
from numpy.typing import NDArray
from variants_row import Accuracy, Cost, Floats, Row, row_of

from monitor.images.decode import DecodeRules, decode
from monitor.model.backbone import Backbone, BackboneError, layout_of
from monitor.model.backbone.ncnn_engine import NcnnBackbone
from monitor.model.backbone.ncnn_files import NO_WINOGRAD, Part, cached_imagenet, param_text
from monitor.model.backbone.ncnn_stack import ConvStack
from monitor.model.backbone.stopwatch import peak_mb

Pixels = NDArray[np.uint8]
DECODED_AHEAD = 4
"""Frames that wait, decoded, for the one OpenMP lane: as many as trapwatch lets wait for a GPU."""
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run VGG16. The defaults are what trapwatch does.

    Attributes:
        tiles: Winograd's tiles that ncnn may choose from, 2x2, 4x4, 6x6; none: plain products.
        small_in_block5: block 5 has 2x2 tiles only.
        first_too: the first layer, of three channels, by Winograd's filtering too.
        slab: rows of blocks 1 and 2 that go through at once; None: all.
        shared_pools: the networks share their memory; else each has ncnn's own.
        openmp: one lane, one image at a time, on all cores; else a lane for each core.
        pinned: each lane stays on a core of its own.
        decoding: whole files of 12 MP, decoded as the pipeline does; else ready pixels.
        environment: NAME=value, for the process.
    """

    name: str
    note: str = ""
    tiles: tuple[int, ...] = (2, 4, 6)
    small_in_block5: bool = True
    first_too: bool = False
    slab: int | None = 56
    shared_pools: bool = True
    bfloat16: bool = False
    openmp: bool = False
    pinned: bool = False
    decoding: bool = False
    environment: str = ""


PLAIN = Setting("no Winograd", "the reference of all differences", tiles=())
OURS = Setting("trapwatch")
OURS_FED = replace(OURS, note="decode and forward pass in each lane", decoding=True)
GROUPS: dict[str, tuple[Setting, ...]] = {
    "winograd": (
        OURS,
        Setting("large tiles in block 5 too", small_in_block5=False),
        Setting("4x4 instead of 6x6 tiles", tiles=(2, 4)),
        Setting("2x2 tiles only", tiles=(2,)),
        PLAIN,
        Setting("the first layer too", first_too=True),
    ),
    "slabs": (
        OURS,
        Setting("whole maps", slab=None),
        Setting("112 rows", slab=112),
        Setting("28 rows", slab=28),
        Setting("ncnn's own pools", shared_pools=False),
    ),
    "bfloat16": (OURS, Setting("bfloat16 storage", bfloat16=True)),
    "lanes": (
        OURS_FED,
        replace(OURS_FED, name="one OpenMP lane", note="fed by a decode pool", openmp=True),
        replace(
            OURS_FED,
            name="one OpenMP lane that does not spin",
            note="fed by a decode pool, OMP_WAIT_POLICY=passive",
            openmp=True,
            environment="OMP_WAIT_POLICY=passive",
        ),
        replace(OURS_FED, name="lanes pinned to cores", note="", pinned=True),
    ),
    "openmp": (OURS, Setting("one OpenMP lane", "forward pass alone", openmp=True)),
    "huge-pages": (
        OURS,
        Setting("glibc hugetlb=1", environment="GLIBC_TUNABLES=glibc.malloc.hugetlb=1"),
    ),
}


class ChangedStack(ConvStack):
    """trapwatch's stack with another setting."""

    def __init__(self, ncnn: Any, files: Sequence[Path], setting: Setting) -> None:
        self._setting = setting
        super().__init__(ncnn, files, setting.bfloat16)
        self._networks = [
            (replace(part, slab=setting.slab) if part.slab else part, network)
            for part, network in self._networks
        ]

    def _network(self, part: Part, file: Path, low_precision: bool) -> Any:
        setting = self._setting
        network = self._ncnn.Net()
        option = network.opt
        option.num_threads = cores() if setting.openmp else 1
        option.use_vulkan_compute = False
        option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = False
        option.use_bf16_storage = low_precision
        large = part.large_tiles or not setting.small_in_block5
        option.use_winograd_convolution = bool(setting.tiles)
        option.use_winograd23_convolution = 2 in setting.tiles
        option.use_winograd43_convolution = large and 4 in setting.tiles
        option.use_winograd63_convolution = large and 6 in setting.tiles
        if setting.shared_pools:
            option.blob_allocator, option.workspace_allocator = self._pools
        text = param_text(part)
        if setting.first_too:
            text = text.replace(f" 31={NO_WINOGRAD}", "")
        if network.load_param_mem(text) or network.load_model(str(file)):
            raise BackboneError(f"ncnn could not load {part.name}")
        return network


def measure_settings(
    wanted: Sequence[str], folder: Path, weights: Path, rounds: int
) -> Iterator[Row]:
    """Rows of these groups. Every other round goes backwards, so that drift favours nobody.

    Args:
        folder: with pixels.npy, uint8 (n, 224, 224, 3), and files of 12 MP as *.JPG.
        weights: folder with the parts' files.
    """
    plain = _apart(PLAIN, folder, weights)[1]
    costs: dict[tuple[str, str], list[Cost]] = {}
    features: dict[tuple[str, str], Floats] = {}
    tasks = [(group, setting) for group in wanted for setting in GROUPS[group]]
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: {len(tasks)} processes")
        for group, setting in tasks if number % 2 == 0 else reversed(tasks):
            cost, vectors = _apart(setting, folder, weights)
            costs.setdefault((group, setting.name), []).append(cost)
            features[group, setting.name] = vectors
    for group, setting in tasks:
        key = group, setting.name
        accuracy = None if setting.decoding else Accuracy.of(plain, features[key])
        note = _huge_pages() if group == "huge-pages" else setting.note
        yield row_of(group, setting.name, costs[key], costs[group, OURS.name], accuracy, note)


def _huge_pages() -> str:
    """What the kernel gives to those who ask."""
    try:
        return f"kernel: {HUGE_PAGES.read_text(encoding='utf-8').strip()}"
    except OSError:
        return "kernel: no transparent huge pages"


def _apart(setting: Setting, folder: Path, weights: Path) -> tuple[Cost, Floats]:
    """The cost and the features, measured in a process of its own."""
    words = json.dumps(asdict(setting))
    command = [sys.executable, __file__, "--setting", words]
    command += ["--in", str(folder), "--weights", str(weights)]
    name, _, value = setting.environment.partition("=")
    environment = os.environ | ({name: value} if name else {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{setting.name}: {(done.stderr.strip().splitlines() or ['it crashed'])[-1]}")
    said = json.loads(done.stdout.splitlines()[-1])
    return Cost(**said), np.load(folder / "features.npy")


def features_by_lanes(backbone: Backbone, pixels: Pixels) -> Floats:
    """float32 (n, 1280) of uint8 (n, 224, 224, 3), one image at a time in each lane."""
    with ThreadPoolExecutor(backbone.lanes) as pool:
        return np.concatenate(list(pool.map(lambda one: backbone.features(one[None]), pixels)))


def _features_of_files(backbone: Backbone, files: Sequence[bytes], pinned: bool) -> Floats:
    """Each thread decodes a frame and goes on with its forward pass, as in the pipeline."""
    numbers, lock = count(), threading.Lock()
    allowed = sorted(os.sched_getaffinity(0))

    def pin() -> None:
        with lock:
            core = allowed[next(numbers) % len(allowed)]
        os.sched_setaffinity(0, {core})  # 0: the calling thread

    def work(data: bytes) -> Floats:
        return backbone.features(decode(data, DecodeRules())[None])

    with ThreadPoolExecutor(backbone.lanes, initializer=pin if pinned else None) as pool:
        return np.concatenate(list(pool.map(work, files)))


def _features_fed(backbone: Backbone, files: Sequence[bytes]) -> Floats:
    """A pool decodes a few frames ahead of the one lane."""
    found = []
    with ThreadPoolExecutor(cores()) as pool:
        waiting = [pool.submit(decode, data, DecodeRules()) for data in files[:DECODED_AHEAD]]
        for place in range(len(files)):
            pixels = waiting[place].result()
            if (following := place + DECODED_AHEAD) < len(files):
                waiting.append(pool.submit(decode, files[following], DecodeRules()))
            found.append(backbone.features(pixels[None]))
    return np.concatenate(found)


def _act(setting: Setting, backbone: Backbone, folder: Path) -> Callable[[], Floats]:
    """What is measured."""
    if not setting.decoding:
        pixels = np.load(folder / "pixels.npy")
        return lambda: features_by_lanes(backbone, pixels)
    files = [path.read_bytes() for path in sorted(folder.glob("*.JPG"))]
    if setting.openmp:
        return lambda: _features_fed(backbone, files)
    return lambda: _features_of_files(backbone, files, setting.pinned)


def main() -> None:
    import ncnn

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setting", required=True, help="a Setting as JSON")
    parser.add_argument("--in", type=Path, dest="folder", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    chosen = parser.parse_args()
    setting = Setting(**json.loads(chosen.setting))
    files = cached_imagenet(chosen.weights)
    if files is None:
        sys.exit("the weights' folder is not prepared")
    lanes = 1 if setting.openmp else cores()
    stack = ChangedStack(ncnn, files, setting)
    backbone = NcnnBackbone(stack, layout_of("vgg16"), lanes, 1, setting.name)
    features_by_lanes(backbone, np.zeros((2 * lanes, 224, 224, 3), np.uint8))  # warm up
    act = _act(setting, backbone, chosen.folder)
    start, used = time.perf_counter(), time.process_time()
    features = act()
    wall, processor = time.perf_counter() - start, time.process_time() - used
    np.save(chosen.folder / "features.npy", features)
    each = 1000 / len(features)
    print(json.dumps(asdict(Cost(processor * each, wall * each * cores(), peak_mb()))))


if __name__ == "__main__":
    main()
