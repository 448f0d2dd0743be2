"""Which engine is fastest on this machine: each is tried once, in a process of its own.

A child process, because an engine may end in an illegal instruction or a missing library, and that
must not end the service. What was found is kept beside the weights, and found again when the
processor, a version or a setting that matters has changed.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from monitor.core.domain import iso_utc, utc_now
from monitor.model.backbone import BackboneError, BackboneOptions, Engine
from monitor.model.backbone.machine import Machine, has_gpu, this_machine
from monitor.system.files import write_whole

log = logging.getLogger(__name__)

FILE = "engine.json"
LIMIT_SECONDS = 240.0  # for one engine: starting TensorFlow alone takes 10 s on an old processor
WORTH_IT = 1.1  # Keras must be so much faster: it needs twice the memory and seconds to start


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one engine did. `problem`: why it cannot be used here; None if it can."""

    engine: Engine
    images_per_second: float = 0.0
    batch_size: int = 0
    device: str = ""
    description: str = ""
    open_seconds: float = 0.0
    peak_mb: float = 0.0
    problem: str | None = None

    def __str__(self) -> str:
        if self.problem is not None:
            return f"{self.engine} cannot be used ({self.problem})"
        return f"{self.engine} {self.images_per_second:.1f} images/s"


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine that is used on a machine, and what it was compared with."""

    engine: Engine
    batch_size: int
    machine: Machine
    measured_at: str
    attempts: tuple[Attempt, ...]

    def __str__(self) -> str:
        figures = "; ".join(str(attempt) for attempt in self.attempts)
        return f"{self.engine} ({figures}; measured {self.measured_at[:10]})"


def with_best_engine(options: BackboneOptions) -> BackboneOptions:
    """`options` with the fastest engine of this machine in place of `auto`.

    The first time, that takes half a minute on an old processor.

    Raises:
        BackboneError: no engine works here; says why each one does not.
    """
    choice = remembered(options)
    if choice is None:
        log.info("first start on this machine: trying which engine is fastest, up to a minute")
        attempts = _try_all(options)
        best = best_of(attempts)
        if best is None:
            raise BackboneError("; ".join(f"{a.engine}: {a.problem}" for a in attempts))
        machine = this_machine(options)
        now = iso_utc(utc_now())
        choice = Choice(best.engine, best.batch_size, machine, now, tuple(attempts))
        _remember(choice, options.weights_cache)
        log.info("engine: %s", choice)
    batch_size = options.batch_size or choice.batch_size
    return replace(options, engine=choice.engine, batch_size=batch_size)


def remembered(options: BackboneOptions) -> Choice | None:
    """What was found on this very machine with these settings; None if nothing (valid) was."""
    if options.weights_cache is None:
        return None
    try:
        kept = json.loads((options.weights_cache / FILE).read_bytes())
        machine = Machine(**kept.pop("machine"))
        attempts = tuple(Attempt(**attempt) for attempt in kept.pop("attempts"))
        choice = Choice(**kept, machine=machine, attempts=attempts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s cannot be used (%s); it is measured anew", FILE, error)
        return None
    return choice if choice.machine == this_machine(options) else None


def best_of(attempts: Sequence[Attempt]) -> Attempt | None:
    """A GPU wins at once; else the fastest, and ncnn where Keras is hardly faster."""
    usable = [attempt for attempt in attempts if attempt.problem is None]
    for attempt in usable:
        if attempt.device == "GPU":
            return attempt
    return max(
        usable,
        key=lambda a: a.images_per_second * (WORTH_IT if a.engine == "ncnn" else 1.0),
        default=None,
    )


def _try_all(options: BackboneOptions) -> list[Attempt]:
    """Try what is installed; Keras alone where a GPU is demanded, or there and working."""
    keras_first = options.device == "gpu" or (options.device == "auto" and has_gpu())
    engines: tuple[Engine, ...] = ("keras", "ncnn") if keras_first else ("ncnn", "keras")
    attempts: list[Attempt] = []
    for engine in engines:
        if engine == "ncnn" and options.device == "gpu":
            continue
        attempts.append(attempt(replace(options, engine=engine)))
        if attempts[-1].device == "GPU":
            break
    return attempts


def attempt(options: BackboneOptions, limit_seconds: float = LIMIT_SECONDS) -> Attempt:
    """Open one engine in a child process and time it there. Never raises."""
    engine = options.engine
    if find_spec("ncnn" if engine == "ncnn" else "keras") is None:
        return Attempt(engine, problem="not installed")
    command = [sys.executable, "-m", "monitor.model.backbone.stopwatch"]
    told = asdict(replace(options, tail=None))  # whose weights cost no other time
    given = json.dumps(told, default=os.fspath).encode() + b"\n"
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as child:
        assert child.stdin is not None
        try:
            with suppress(BrokenPipeError):  # it has ended already; its last words say why
                child.stdin.write(given)  # and stays open: the child ends when this process does
            output, errors = _hear(child, limit_seconds)
        except subprocess.TimeoutExpired:
            return Attempt(engine, problem=f"no answer within {limit_seconds:.0f} s")
    if child.returncode:
        return Attempt(engine, problem=_last_words(child.returncode, errors))
    try:
        return Attempt(engine, **json.loads(output.splitlines()[-1]))
    except (ValueError, TypeError, IndexError):
        return Attempt(engine, problem=f"no figures, but: {output[-200:]!r}")


def _hear(child: subprocess.Popen[bytes], limit_seconds: float) -> tuple[bytes, bytes]:
    """Both outputs to their end. `communicate` would close stdin, which tells the child to end."""
    assert child.stdout is not None and child.stderr is not None
    with ThreadPoolExecutor(2) as readers:
        heard = [readers.submit(stream.read) for stream in (child.stdout, child.stderr)]
        try:
            child.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            child.kill()  # or the readers would wait for it
            raise
        return heard[0].result(), heard[1].result()


def _last_words(code: int, errors: bytes) -> str:
    if code < 0:
        return f"it crashed with signal {-code}"
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else f"exit status {code}"


def _remember(choice: Choice, cache: Path | None) -> None:
    if cache is None:
        return
    try:
        write_whole(json.dumps(asdict(choice), indent=1).encode(), cache / FILE)
    except OSError as error:
        log.warning("which engine is fastest could not be kept in %s: %s", cache, error)
