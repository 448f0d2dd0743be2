"""/healthz, /readyz and /metrics: who may ask, and what they are told."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2 as httpx
import pytest
from faults.drill import Drill
from faults.systemd import Ears, running, stopped, wait_until
from logbook import DAWN, frames, item, predict, publish, say, take_in
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from webstation import free_port

from monitor.core.config import ConfigError, Settings, load_settings
from monitor.core.domain import FileStamp, RunState, iso_utc
from monitor.health.metrics import exposition
from monitor.health.metrics_measured import measure
from monitor.log.species_log import SpeciesLog, open_log
from monitor.system.locks import LOCK_NAME, OwnerLock
from monitor.web.accounts import Accounts, Role
from monitor.web.checks import asks_nobody
from monitor.web.context import open_parts
from monitor.web.monitoring import KEPT_SECONDS, Kept, Monitoring
from monitor.web.serving.app import create_app

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
LOCAL = "http://127.0.0.1"
Samples = dict[tuple[str, ...], float]


class Web:
    """A station whose pages are asked by programs.

    Attributes:
        seconds: the monotonic clock of what is kept.
        built: how often metrics were computed.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.seconds, self.built = settings, 0.0, 0
        self.now = NOW
        self.parts = open_parts(settings, lambda: self.now)
        self.app = create_app(self.parts)
        self.app.state.monitoring = Monitoring(self.parts, lambda: self.seconds)

    def client(self, address: str = "127.0.0.1", base: str = LOCAL) -> TestClient:
        return TestClient(
            self.app,
            base,
            raise_server_exceptions=False,
            follow_redirects=False,
            client=(address, 5000),
        )

    def later(self) -> None:
        """When nothing that was kept counts any more."""
        self.seconds += KEPT_SECONDS


def opened(config: Path, **environ: str) -> Web:
    found = {f"TRAPWATCH_{name.upper()}": value for name, value in environ.items()}
    return Web(load_settings(config, found))


@pytest.fixture
def web(config: Path) -> Iterator[Web]:
    """A station that only its own machine reaches."""
    found = opened(config)
    yield found
    found.parts.close()


@pytest.fixture
def alive(web: Web) -> Iterator[Web]:
    """The same with a service that gives signs of life, and a live model."""
    with OwnerLock(web.settings.data_directory / LOCK_NAME, "the log", NOW):
        publish(web.parts.log)
        web.parts.log.put_state("service", {"pid": 1, "problems": {}}, NOW)
        yield web


def samples(text: str) -> Samples:
    """(name, label values …) -> value."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def told(settings: Settings, log: SpeciesLog) -> Samples:
    return samples(exposition(measure(settings, log, NOW)).decode())


def test_a_station_that_is_well_says_so_with_200(alive: Web) -> None:
    answer = alive.client().get("/healthz")
    assert (answer.status_code, answer.json()["state"]) == (200, "ok")
    assert answer.json()["checks"]["service"] == "ok"
    assert alive.client().get("/readyz").json() == {"ready": True}


def test_a_degraded_station_still_answers_200_and_is_ready(alive: Web) -> None:
    problems = {"classify": "the share at /mnt/ridge is gone"}
    alive.parts.log.put_state("service", {"pid": 1, "problems": problems}, NOW)
    answer = alive.client().get("/healthz")
    assert (answer.status_code, answer.json()["state"]) == (200, "degraded")
    assert alive.client().get("/readyz").status_code == 200


def test_a_service_that_does_not_run_or_hangs_is_503(web: Web, alive: Web) -> None:
    alive.now = NOW + timedelta(hours=1)
    for path in ("/healthz", "/readyz"):
        assert alive.client().get(path).status_code == 503


def test_a_station_without_its_service_is_503(web: Web) -> None:
    for path in ("/healthz", "/readyz"):
        assert web.client().get(path).status_code == 503


def test_a_log_that_cannot_be_read_is_the_finding_not_an_error_page(alive: Web) -> None:
    path = alive.parts.log.path
    alive.parts.log.close()
    path.write_bytes(b"no database at all" * 500)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    answer = alive.client().get("/healthz")
    assert (answer.status_code, answer.json()["checks"]["log"]) == (503, "failing")
    assert str(path) not in answer.text
    assert alive.client().get("/readyz").status_code == 503


def test_health_says_nothing_private_and_leaves_no_cookie(config: Path) -> None:
    web = opened(config, web__host="0.0.0.0")
    Accounts(web.settings.data_directory).set_password("Ana", "a long walk in the forest")
    take_in(web.parts.log, [item("a.jpg", deployment="eagle nest")])
    web.parts.log.put_state("disk", {"state": "full", "words": "full (/var/secret)"}, NOW)
    for path in ("/healthz", "/readyz"):
        answer = web.client("10.0.0.9", "http://station.lan").get(path)
        assert answer.status_code == 503  # no login is demanded, nothing is redirected
        for word in ("eagle", "secret", str(config.parent), "Ana", "0.1.0", "test"):
            assert word not in answer.text
        assert "set-cookie" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"
    web.parts.close()


def test_health_is_told_also_where_the_accounts_are_damaged(alive: Web) -> None:
    (alive.settings.data_directory / "accounts.json").write_text("{")
    assert alive.client().get("/").status_code == 503
    assert alive.client().get("/healthz").status_code == 200


def test_only_reading_is_open(alive: Web) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        for method in ("POST", "PUT", "DELETE"):
            assert alive.client().request(method, path).status_code in (403, 405, 415)


def test_metrics_are_for_this_machine_alone_unless_a_token_is_shown(config: Path) -> None:
    web = opened(config, web__host="0.0.0.0")
    accounts = Accounts(web.settings.data_directory)
    accounts.set_password("Ana", "a long walk in the forest")
    token = accounts.add_token("prometheus", Role.VIEWER, NOW, None)
    lan = web.client("10.0.0.9", "http://station.lan:8700")
    assert web.client().get("/metrics").status_code == 200
    assert lan.get("/metrics").status_code == 401
    assert lan.get("/metrics", headers={"Authorization": "Bearer nonsense"}).status_code == 401
    answer = lan.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "set-cookie" not in answer.headers
    # a page elsewhere whose name is made to point at this machine (DNS rebinding)
    assert web.client(base="http://evil.example").get("/metrics").status_code == 401
    web.parts.close()


def test_metrics_can_be_kept_to_those_who_have_logged_in(config: Path) -> None:
    web = opened(config, web__metrics="login")
    Accounts(web.settings.data_directory).set_password("Ana", "a long walk in the forest")
    assert web.client().get("/metrics").status_code == 401
    web.parts.close()


def test_metrics_can_be_closed(config: Path) -> None:
    web = opened(config, web__metrics="closed")
    assert web.client().get("/metrics").status_code == 404
    assert web.client().get("/healthz").status_code == 503  # which is no figure
    web.parts.close()
    with pytest.raises(ConfigError, match=r"web\.metrics"):
        opened(config, web__metrics="everybody")


@pytest.mark.parametrize(
    ("path", "metrics", "client", "host", "is_open"),
    [
        ("/healthz", "closed", "10.0.0.9", "station.lan", True),
        ("/readyz", "login", "10.0.0.9", "station.lan", True),
        ("/metrics", "local", "127.0.0.1", "127.0.0.1:8700", True),
        ("/metrics", "local", "::1", "[::1]:8700", True),
        ("/metrics", "local", "10.0.0.9", "127.0.0.1", False),
        ("/metrics", "local", "127.0.0.1", "station.lan", False),
        ("/metrics", "login", "127.0.0.1", "127.0.0.1", False),
        ("/metrics/", "local", "127.0.0.1", "127.0.0.1", False),
        ("/", "local", "127.0.0.1", "127.0.0.1", False),
    ],
)
def test_who_is_asked_for_nothing(
    path: str, metrics: str, client: str, host: str, is_open: bool
) -> None:
    assert asks_nobody(path, metrics, client, host) is is_open


def test_who_asks_often_gets_the_same_answer_again(alive: Web) -> None:
    client = alive.client()
    assert client.get("/healthz").json()["state"] == "ok"
    alive.now = NOW + timedelta(hours=1)
    assert client.get("/healthz").json()["state"] == "ok"
    alive.later()
    assert client.get("/healthz").json()["state"] == "failing"


def test_many_at_once_make_it_once() -> None:
    made: list[int] = []
    going = threading.Event()

    def make() -> int:
        going.wait(10)
        made.append(1)
        return len(made)

    kept = Kept(make, lambda: 0.0)
    threads = [threading.Thread(target=kept.get) for _ in range(8)]
    for thread in threads:
        thread.start()
    going.set()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_what_failed_is_not_kept() -> None:
    answers = iter([sqlite3.OperationalError("locked"), 7])

    def make() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    kept = Kept(make, lambda: 0.0)
    with pytest.raises(sqlite3.OperationalError):
        kept.get()
    assert kept.get() == 7


def test_the_figures_are_those_of_the_log(config: Path, log: SpeciesLog) -> None:
    settings = load_settings(config, {})
    ids = frames(log, 3)
    take_in(log, [item("new.jpg", DAWN), item("bad.jpg", rejected="truncated")])
    log.note_unreadable(b"/frames/locked.jpg", FileStamp(1, 1), "Permission denied")
    publish(log)
    predict(log, {ids[0]: ("red fox", 0.9), ids[1]: ("person", 0.9)})
    say(log, ids[2], "badger")
    log.finish_run(log.start_run("head", "cli", 1, NOW), RunState.FAILED, "no", NOW)
    log.put_state("service", {"pid": 1, "problems": {"watch": "gone"}}, NOW - timedelta(seconds=9))
    log.put_state("rest", {"classify": "outside the hours of work"}, NOW)
    found = told(settings, log)
    wanted = {
        ("trapwatch_media", "pending"): 1,
        ("trapwatch_media", "classified"): 3,
        ("trapwatch_media", "rejected"): 1,
        ("trapwatch_media_taken_in_total",): 5,
        ("trapwatch_media_classified_total",): 3,
        ("trapwatch_pending",): 1,
        ("trapwatch_unreadable_files",): 1,
        ("trapwatch_labels", "badger"): 1,
        ("trapwatch_labelled_media",): 1,
        ("trapwatch_predictions", "red fox"): 1,
        ("trapwatch_training_runs", "failed"): 1,
        ("trapwatch_training_runs", "succeeded"): 0,
        ("trapwatch_training_active",): 0,
        ("trapwatch_live_model_info", "small", "v0001"): 1,
        ("trapwatch_service_heartbeat_age_seconds",): 9,
        ("trapwatch_service_problems",): 1,
        ("trapwatch_service_alive",): 0,
        ("trapwatch_resting", "classify"): 1,
        ("trapwatch_resting", "train"): 0,
        ("trapwatch_alerts", "waiting"): 0,
        ("trapwatch_poison_files",): 0,
        ("trapwatch_health", "failing"): 1,
        ("trapwatch_health", "ok"): 0,
        ("trapwatch_health_check", "service"): 2,
    }
    assert {key: found.get(key) for key in wanted} == wanted
    assert found["trapwatch_disk_free_bytes",] > 0
    assert found["trapwatch_file_size_bytes", "log"] > 0
    assert found["trapwatch_process_resident_memory_bytes", "web"] > 1e6
    assert found["trapwatch_process_open_files", "web"] > 0
    newest = found["trapwatch_last_capture_timestamp_seconds", "north"]
    assert newest == pytest.approx(
        (DAWN + timedelta(hours=2)).replace(tzinfo=NOW.tzinfo).timestamp()
    )


def test_private_species_are_in_no_figure(config: Path, log: SpeciesLog) -> None:
    ids = frames(log, 3)
    publish(log)
    predict(log, {ids[0]: ("person", 0.9)})
    say(log, ids[1], "vehicle")
    say(log, ids[2], "lynx")
    found = told(load_settings(config, {}), log)
    species = {key[1] for key in found if key[0] in ("trapwatch_labels", "trapwatch_predictions")}
    assert species == {"lynx"}


def test_only_what_the_live_model_says_is_counted(config: Path, log: SpeciesLog) -> None:
    ids = frames(log, 2)
    for version, species in (("v0001", "wolf"), ("v0002", "dog")):
        publish(log, version)
        predict(log, {ids[0]: (species, 0.9), ids[1]: (species, 0.8)}, version)
    found = told(load_settings(config, {}), log)
    assert found["trapwatch_predictions", "dog"] == 2
    assert ("trapwatch_predictions", "wolf") not in found
    assert found["trapwatch_live_model_info", "small", "v0002"] == 1


def test_merged_species_count_as_what_they_became(config: Path, log: SpeciesLog) -> None:
    ids = frames(log, 2)
    say(log, ids[0], "silver fox")
    say(log, ids[1], "red fox")
    log.merge_species("silver fox", "red fox", "Ana", "cli", NOW)
    found = told(load_settings(config, {}), log)
    assert found["trapwatch_labels", "red fox"] == 2
    assert ("trapwatch_labels", "silver fox") not in found


def test_names_with_quotes_and_line_ends_stay_one_label(config: Path, log: SpeciesLog) -> None:
    name = 'the "old"\\mill\nridge'
    take_in(log, [item("a.jpg", deployment="x")])
    with open_log(f"sqlite:///{log.path}") as other, other._write() as connection:
        connection.exec_driver_sql("UPDATE deployment SET name = ?", (name,))
    found = told(load_settings(config, {}), log)
    assert ("trapwatch_last_capture_timestamp_seconds", name) in found


def test_a_clock_set_back_gives_figures_all_the_same(config: Path, log: SpeciesLog) -> None:
    take_in(log, [item("a.jpg")])
    early = NOW - timedelta(days=20_000)
    assert iso_utc(early) < "1973"
    found = samples(exposition(measure(load_settings(config, {}), log, early)).decode())
    assert found["trapwatch_pending_age_seconds",] == 0


@pytest.mark.slow
def test_a_real_service_tells_of_itself_and_its_absence_is_told(tmp_path: Path) -> None:
    """The pages' process beside a service; then alone, as after the service was ended."""
    drill, ears = Drill(tmp_path), Ears(tmp_path)
    port = free_port()
    drill.configure(port=port)
    url = f"http://127.0.0.1:{port}"

    def state() -> tuple[int, str]:
        try:
            answer = httpx.get(f"{url}/healthz", timeout=5)
            return answer.status_code, answer.json()["checks"]["service"]
        except httpx.TransportError:
            return 0, ""

    with running(drill, ears, WATCHDOG_USEC="3000000") as service:
        wait_until(lambda: state() == (200, "ok"))
        found = samples(httpx.get(f"{url}/metrics", timeout=5).text)
        assert found["trapwatch_service_alive",] == 1
        assert found["trapwatch_process_resident_memory_bytes", "service"] > 1e7
        assert found["trapwatch_service_heartbeat_age_seconds",] < 10
        stopped(service)
    ears.close()
    with subprocess.Popen(drill.command("web"), stderr=subprocess.DEVNULL) as alone:
        try:
            wait_until(lambda: state() == (503, "failing"))
            assert httpx.get(f"{url}/readyz", timeout=5).status_code == 503
        finally:
            alone.terminate()
