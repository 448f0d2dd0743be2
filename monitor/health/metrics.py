"""Every metric, made of what was measured: names by the conventions of Prometheus."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from monitor import __version__
from monitor.core.domain import MediaStatus, RunState, parse_iso_utc
from monitor.core.pauses import KINDS_OF_WORK
from monitor.health.metrics_measured import Measured, ProcessFigures
from monitor.health.verdict import WORST_LAST, Level

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_DEPLOYMENTS = 500
"""Series of single deployments: those that sent something last. Prometheus pays for each."""
MOST_SPECIES = 200
STATUSES = tuple(status.value for status in MediaStatus)
RUN_STATES = tuple(state.value for state in RunState)


def exposition(measured: Measured) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(families(measured)))
    return generate_latest(registry)


def families(m: Measured) -> Iterator[Metric]:
    """Every metric, with its samples. Pure."""
    yield InfoMetricFamily(
        "trapwatch_build", "This program.", {"version": __version__, "station": m.station}
    )
    yield from _of_health(m)
    yield from _of_service(m)
    yield from _of_media(m)
    yield from _of_species(m)
    yield from _of_learning(m)
    yield from _of_disk(m)
    yield from _of_processes(m.processes)


def _of_health(m: Measured) -> Iterator[Metric]:
    yield _by(
        "trapwatch_health",
        "1 for the state that the station is in.",
        "state",
        {
            level.value: int(m.health.state is level)
            for level in WORST_LAST
            if level is not Level.UNKNOWN
        },
    )
    yield _by(
        "trapwatch_health_check",
        "How each thing stands: 0 ok, 1 degraded, 2 failing; missing where nothing is known.",
        "check",
        {name: _LEVELS[level] for name, level in m.health.checks.items() if level in _LEVELS},
    )


def _of_service(m: Measured) -> Iterator[Metric]:
    service = m.told.get("service")
    yield _one(
        "trapwatch_service_alive",
        "1 if the service runs and has given a sign of life lately.",
        int(m.health.checks.get("service") == Level.OK),
    )
    if service is not None:
        yield _one(
            "trapwatch_service_heartbeat_age_seconds",
            "Since the service's last sign of life.",
            service.age_seconds,
        )
        yield _one(
            "trapwatch_service_problems",
            "Parts of the service that have a problem now.",
            len(service.value.get("problems") or {}),
        )
    rest = m.told.get("rest")
    resting = rest.value if rest is not None else {}
    yield _by(
        "trapwatch_resting",
        "1 for work that rests: a full disk, the hours of work, a low battery.",
        "work",
        {work: int(bool(resting.get(work))) for work in KINDS_OF_WORK},
    )
    yield _by(
        "trapwatch_alerts",
        "Alerts in the outbox, by what became of them.",
        "state",
        {"waiting": 0, **m.figures.deliveries},
    )


def _of_media(m: Measured) -> Iterator[Metric]:
    yield _by(
        "trapwatch_media",
        "Media in the log.",
        "status",
        {status: m.counts.get(status, 0) for status in STATUSES},
    )
    yield _counter(
        "trapwatch_media_taken_in", "Media taken in since the log began.", m.figures.media_taken_in
    )
    yield _counter(
        "trapwatch_media_classified",
        "Media that went through the classifier.",
        m.counts.get("classified", 0),
    )
    yield _one("trapwatch_pending", "Media that wait to be classified.", m.counts["pending"])
    yield _one(
        "trapwatch_pending_age_seconds",
        "How long the media that waits longest has waited; 0: none waits.",
        max(m.lag_seconds or 0.0, 0.0),
    )
    yield _one(
        "trapwatch_waiting_for_their_file",
        "Pending media whose file is gone.",
        m.counts["waiting_for_their_file"],
    )
    yield _one(
        "trapwatch_unreadable_files", "Files that cannot be read.", m.counts["unreadable_files"]
    )
    yield _one("trapwatch_poison_files", "Files that ended the process.", m.figures.poison_files)
    newest = sorted(m.last_captures.items(), key=lambda pair: -pair[1])[:MOST_DEPLOYMENTS]
    yield _by(
        "trapwatch_last_capture_timestamp_seconds",
        "When a deployment's newest frame was captured.",
        "deployment",
        dict(newest),
    )


def _of_species(m: Measured) -> Iterator[Metric]:
    yield _by(
        "trapwatch_labels",
        "Media whose label names the species; private ones are left out.",
        "species",
        _shown(m.figures.labelled, m.private),
    )
    yield _by(
        "trapwatch_predictions",
        "Media of which the live model says the species; private ones are left out.",
        "species",
        _shown(m.figures.predicted, m.private),
    )


def _of_learning(m: Measured) -> Iterator[Metric]:
    yield _one("trapwatch_labelled_media", "Media with a label.", m.counts["labelled"])
    yield _by(
        "trapwatch_training_runs",
        "Training runs in the log.",
        "state",
        dict.fromkeys(RUN_STATES, 0) | m.figures.runs,
    )
    yield _one("trapwatch_training_active", "1 while a training runs.", int(m.is_training))
    if m.live is not None:
        yield InfoMetricFamily(
            "trapwatch_live_model",
            "The model version that is live.",
            {"version": m.live.name, "backbone": m.live.backbone},
        )
        if m.live.went_live_at:
            yield _one(
                "trapwatch_live_model_since_timestamp_seconds",
                "When it went live.",
                parse_iso_utc(m.live.went_live_at).timestamp(),
            )


def _of_disk(m: Measured) -> Iterator[Metric]:
    yield _one("trapwatch_disk_free_bytes", "Free where the log lies.", m.disk_free_bytes)
    yield _one("trapwatch_disk_size_bytes", "Size of that disk.", m.disk_total_bytes)
    yield _by("trapwatch_file_size_bytes", "Size of the log and of its caches.", "file", m.sizes)
    for key, name, words in _AGES:
        age = m.age_of(key)
        if age is not None:
            yield _one(name, words, age)


def _of_processes(processes: Mapping[str, ProcessFigures]) -> Iterator[Metric]:
    yield _by(
        "trapwatch_process_resident_memory_bytes",
        "Memory that a process holds.",
        "process",
        {name: p.memory_bytes for name, p in processes.items()},
    )
    yield _by(
        "trapwatch_process_open_files",
        "Files and sockets that a process holds open.",
        "process",
        {name: p.open_files for name, p in processes.items()},
    )
    cpu = CounterMetricFamily(
        "trapwatch_process_cpu_seconds", "Processor time.", labels=["process"]
    )
    for name, p in processes.items():
        cpu.add_metric([name], p.cpu_seconds)
    yield cpu


_AGES = (
    ("backup", "trapwatch_backup_age_seconds", "Since the newest good backup."),
    ("integrity", "trapwatch_log_check_age_seconds", "Since the log was last checked."),
)
_LEVELS = {Level.OK.value: 0, Level.DEGRADED.value: 1, Level.FAILING.value: 2}


class _Once(Collector):
    """Families that were made already."""

    def __init__(self, made: Iterator[Metric]) -> None:
        self._made: Sequence[Metric] = list(made)

    def collect(self) -> Sequence[Metric]:
        return self._made


def _one(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, value=value)


def _counter(name: str, words: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, words, value=value)


def _by(name: str, words: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _shown(counts: Mapping[str, int], private: Collection[str]) -> dict[str, int]:
    """The most frequent species that are not private."""
    shown = {name: n for name, n in counts.items() if name.casefold() not in private}
    return dict(sorted(shown.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_SPECIES])
