"""What decides which engine is fastest: the processor, what it can, and the versions installed."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from monitor.model.backbone import BackboneOptions, usable_threads

PACKAGES = ("ncnn", "tensorflow", "keras", "jax", "numpy")
_X86 = {"avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_bf16"}
_X86_NEWER = {"avx512_fp16", "avx512_vnni", "amx_bf16", "amx_tile"}
_ARM = {"neon", "asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"}
ABILITIES = frozenset(_X86 | _X86_NEWER | _ARM)
_NAMES = ("model name", "Model", "Hardware", "CPU implementer", "CPU part")


@dataclass(frozen=True, slots=True)
class Machine:
    """Equal only where the same trial would be made. Only texts and numbers: it is kept as JSON."""

    processor: str
    abilities: str
    threads: int
    gpu: bool
    device: str
    precision: str
    versions: str


def this_machine(options: BackboneOptions) -> Machine:
    """The machine this runs on, with the settings that matter."""
    processor, abilities = processor_facts()
    return Machine(
        processor=processor,
        abilities=" ".join(sorted(abilities)),
        threads=usable_threads(options.threads),
        gpu=has_gpu(),
        device=options.device,
        precision=options.precision,
        versions=", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name))),
    )


def processor_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, frozenset[str]]:
    """The processor's name, and which of ABILITIES it has."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}".strip(), frozenset()
    pairs = [[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]
    facts = dict(reversed(pairs))  # the first processor's
    words = facts.get("flags") or facts.get("Features") or ""
    names = [facts[name] for name in _NAMES if facts.get(name)]
    return f"{platform.machine()} {' '.join(names)}".strip(), ABILITIES & set(words.split())


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether a driver of NVIDIA or AMD shows a device; whether Keras can use it, a trial tells."""
    return any((devices / name).exists() for name in ("nvidiactl", "nvidia0", "kfd", "nvgpu"))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
