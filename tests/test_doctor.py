"""The doctor says how each thing stands and what to do, and never raises."""

import errno
import sqlite3
import subprocess
from pathlib import Path

import pytest
from field import LAYOUT, sure_of

from monitor.core.config import Settings, load_settings
from monitor.core.domain import ModelState, iso_utc, utc_now
from monitor.health.doctor import FAIL, OK, WARN, Check, examine
from monitor.health.status import status_lines, status_of
from monitor.log.engine import SqliteChoice
from monitor.log.species_log import open_log
from monitor.model.backbone import trial
from monitor.model.options import backbone_options
from monitor.model.versions import ModelStore
from monitor.system.limited import Hangs
from monitor.system.locks import LOCK_NAME, OwnerLock
from monitor.web.accounts import Accounts
from monitor.web.serving.doctor import look_at_pages


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    config = tmp_path / "config.yaml"
    config.write_text("classifier: {backbone: small}\n")
    (tmp_path / "frames").mkdir()
    return load_settings(config, environ={})


def finding(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_a_new_station_has_warnings_but_nothing_broken(settings: Settings) -> None:
    checks = examine(settings)
    assert [check for check in checks if check.state == FAIL] == []
    assert finding(checks, "log").state == WARN
    assert "trapwatch run" in finding(checks, "log").advice


def test_a_sound_log_is_said_to_be_sound(settings: Settings) -> None:
    open_log(settings.database.url, create=True).close()
    checks = examine(settings)
    assert finding(checks, "log").state == OK
    assert finding(checks, "model").finding == "none yet"
    assert finding(checks, "service").finding == "not running"


def test_a_log_that_is_no_database_is_broken(settings: Settings) -> None:
    settings.data_directory.mkdir()
    (settings.data_directory / "trapwatch.db").write_bytes(b"no database at all" * 100)
    check = finding(examine(settings), "log")
    assert check.state == FAIL
    assert "set database.url" in check.finding


def test_a_watched_folder_that_is_missing_is_named(settings: Settings) -> None:
    (settings.watch.folders[0]).rmdir()
    check = finding(examine(settings), "watched folder")
    assert check.state == WARN
    assert str(settings.watch.folders[0]) in check.finding


def test_a_live_model_without_its_files_is_broken(settings: Settings) -> None:
    with open_log(settings.database.url, create=True) as log:
        log.add_version(
            "v0001", ModelState.CANDIDATE, "small", "small/1", "0" * 64, "", {}, utc_now()
        )
        log.go_live("v0001", "for the test", "test", utc_now())
    check = finding(examine(settings), "model")
    assert check.state == FAIL
    assert "v0001" in check.finding


def test_a_faulty_deployment_list_is_broken(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "deployments.csv"
    file.write_text("deployment,path,latitude\nridge,ridge,95\n")
    deployments = settings.deployments.model_copy(update={"file": file})
    checks = examine(settings.model_copy(update={"deployments": deployments}))
    assert "line 2" in finding(checks, "deployments").finding


def test_a_config_or_log_that_others_may_read_gets_the_very_command_that_closes_it(
    settings: Settings,
) -> None:
    open_log(settings.database.url, create=True).close()
    assert settings.source is not None
    log = settings.data_directory / "trapwatch.db"
    old = settings.data_directory / "trapwatch.db.damaged-20260501T120000Z"
    old.write_bytes(b"as it was found")
    settings.data_directory.chmod(0o750)
    for path, mode in ((settings.source, 0o640), (log, 0o600), (old, 0o640)):
        path.chmod(mode)
    closed = [check for check in examine(settings) if check.name == "file modes"]
    assert [check.state for check in closed] == [OK]
    for path, mode in ((settings.source, 0o644), (log, 0o606), (old, 0o660)):
        path.chmod(mode)
    checks = [check for check in examine(settings) if check.name == "file modes"]
    assert [(check.state, check.advice) for check in checks] == [
        (WARN, f"chmod 0640 {settings.source}"),
        (WARN, f"chmod 0600 {log}"),
        (WARN, f"chmod 0640 {old}"),
    ]
    for check in checks:
        subprocess.run(check.advice, shell=True, check=True)
    assert [c.state for c in examine(settings) if c.name == "file modes"] == [OK]


def test_models_backups_accounts_and_the_folder_itself_must_be_closed_too(
    settings: Settings,
) -> None:
    open_log(settings.database.url, create=True).close()
    assert settings.source is not None
    data, models = settings.data_directory, settings.models.directory
    ModelStore(models).publish("v0001", sure_of("hare"), {}, "")
    (data / "backups").mkdir()
    open_ones = {
        data / "trapwatch.db": 0o640, settings.source: 0o640, data / "features.db": 0o644,
        data / "accounts.json": 0o640, data / "backups" / "a b.db": 0o644, data: 0o755,
    }  # fmt: skip
    for path, mode in open_ones.items():
        if path != data:
            path.touch()
        path.chmod(mode)
    for path in (models, models / "v0001"):
        path.chmod(0o755)
    checks = [check for check in examine(settings) if check.name == "file modes"]
    assert [(check.state, check.advice) for check in checks] == [
        (WARN, f"chmod 0750 {data}"),
        (WARN, f"chmod 0640 {data / 'features.db'}"),
        (WARN, f"chmod 0600 {data / 'accounts.json'}"),
        (WARN, f"chmod -R g-w,o= {models}"),
        (WARN, f"chmod -R g-w,o= {data / 'backups'}"),
    ]
    assert f"{models}: others may use 2 files or folders" in checks[3].finding
    for check in checks:
        subprocess.run(check.advice, shell=True, check=True)
    assert [c.state for c in examine(settings) if c.name == "file modes"] == [OK]


def test_addresses_that_only_the_service_is_given_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "config.yaml").write_text(
        "classifier: {backbone: small}\nalerts: {urls_file: '${CREDENTIALS_DIRECTORY}/alerts'}\n"
    )
    station = load_settings(tmp_path / "config.yaml", environ={})
    checks = examine(station)
    assert [check for check in checks if check.state == FAIL] == []
    told = finding(checks, "alerts")
    assert told.state == OK and "only the service can read it" in told.finding
    assert "docs/alerts.md" in told.advice


def test_a_log_of_a_newer_release_is_told_once_with_the_way_back(settings: Settings) -> None:
    open_log(settings.database.url, create=True).close()
    log = settings.data_directory / "trapwatch.db"
    copy = settings.data_directory / "backups" / "trapwatch-before-0099-2026-12-01T0000Z.db"
    copy.parent.mkdir()
    with sqlite3.connect(log) as old, sqlite3.connect(copy) as kept:
        old.backup(kept)
        old.execute("UPDATE alembic_version SET version_num = '0099'")
    with OwnerLock(settings.data_directory / LOCK_NAME, "the log", utc_now()):
        checks = examine(settings)
    (told,) = [check for check in checks if "newer trapwatch" in check.finding]
    assert (told.state, told.name) == (FAIL, "log")
    assert "revision" not in told.finding
    assert f"trapwatch restore {copy}" in told.advice and "docs/install.md" in told.advice
    assert finding(checks, "clock").state == OK
    assert finding(checks, "service").finding == "running"
    copy.unlink()
    assert "docs/install.md" in finding(examine(settings), "log").advice


def test_a_damaged_card_is_told_and_the_model_is_sound_all_the_same(settings: Settings) -> None:
    store = ModelStore(settings.models.directory)
    sha256 = store.publish("v0001", sure_of("hare"), {}, "")
    with open_log(settings.database.url, create=True) as log:
        state = ModelState.CANDIDATE
        log.add_version("v0001", state, "small", LAYOUT.name, sha256, "", {}, utc_now())
        log.go_live("v0001", "for the test", "test", utc_now())
    assert finding(examine(settings), "model").state == OK
    card = store.path("v0001") / "model_card.json"
    card.chmod(0o644)
    card.write_text("{")
    check = finding(examine(settings), "model")
    assert (check.state, "labels, but its card" in check.finding) == (WARN, True)


def test_a_model_that_was_found_damaged_is_told_with_what_to_do(settings: Settings) -> None:
    with open_log(settings.database.url, create=True) as log:
        for name in ("v0001", "v0002"):
            state, layout = ModelState.CANDIDATE, LAYOUT.name
            log.add_version(name, state, "small", layout, "0" * 64, "", {}, utc_now())
            log.go_live(name, "for the test", "test", utc_now())
        log.fall_back("v0002", "v0001", "its SHA-256 is wrong", utc_now())
        with_another = finding(examine(settings), "damaged model")
        log.fall_back("v0001", None, "its SHA-256 is wrong", utc_now())
        with_none = finding(examine(settings), "damaged model")
    assert (with_another.state, with_none.state) == (WARN, FAIL)
    assert "v0002" in with_another.finding and "SHA-256 is wrong" in with_another.finding
    assert "trapwatch models promote v0001" in with_none.advice


def test_an_old_sqlite_gets_a_warning(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    old = SqliteChoice(sqlite3, "system sqlite3", "3.40.1", wal=False)
    monkeypatch.setattr("monitor.health.doctor.choose_sqlite", lambda: old)
    check = finding(examine(settings), "SQLite")
    assert check.state == WARN
    assert "rollback journal" in check.finding


def test_vgg16_without_weights_is_broken(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr("monitor.model.backbone.weights._in_wheel", lambda: None)
    classifier = settings.classifier.model_copy(update={"backbone": "vgg16"})
    check = finding(examine(settings.model_copy(update={"classifier": classifier})), "weights")
    assert check.state == FAIL
    assert "weights fetch" in check.advice


def test_status_tells_what_the_log_tells(settings: Settings) -> None:
    with open_log(settings.database.url, create=True) as log:
        log.put_state("watch", {"other_types": {".txt": 3}, "problems": ["/x: gone"]}, utc_now())
        log.note_unreadable(b"/f/a.jpg", _stamp(), "Permission denied")
        log.start_run("head", "cli", 1, utc_now())
        facts = status_of(settings, log)
    lines = dict(status_lines(facts))
    assert facts["service"]["running"] is False
    assert lines["other files seen"] == "3 .txt"
    assert lines["last training"].startswith("running")
    assert "/x: gone" in [text for name, text in status_lines(facts) if name == "problem"]
    assert facts["unreadable"] == [{"path": "/f/a.jpg", "problem": "Permission denied"}]
    assert facts["now"] <= iso_utc(utc_now())


def test_status_sees_a_running_service(settings: Settings) -> None:
    with (
        open_log(settings.database.url, create=True) as log,
        OwnerLock(settings.data_directory / LOCK_NAME, "the log", utc_now()),
    ):
        log.put_state("service", {"pid": 4711, "problems": {"classify": "no weights"}}, utc_now())
        facts = status_of(settings, log)
    assert facts["service"] == {
        "running": True,
        "pid": 4711,
        "problems": {"classify": "no weights"},
    }
    assert ("problem", "classify: no weights") in status_lines(facts)


def _stamp():  # type: ignore[no-untyped-def]
    from monitor.core.domain import FileStamp

    return FileStamp(1, 1)


def test_the_engine_and_its_trial_are_shown(settings: Settings, monkeypatch) -> None:
    classifier = settings.classifier.model_copy(update={"backbone": "vgg16"})
    station = settings.model_copy(update={"classifier": classifier})
    check = finding(examine(station), "engine")
    assert (check.state, check.finding) == (WARN, "not tried on this machine yet")
    crashed = "it crashed with signal 4"
    attempts = {
        "ncnn": trial.Attempt("ncnn", problem=crashed),
        "keras": trial.Attempt("keras", 2.5, device="CPU"),
    }
    monkeypatch.setattr(trial, "attempt", lambda options: attempts[options.engine])
    trial.with_best_engine(backbone_options(station))
    checks = examine(station)
    assert finding(checks, "engine").state == OK
    assert "keras 2.5 images/s" in finding(checks, "engine").finding
    assert finding(checks, "engine ncnn").finding == crashed
    assert "engine.json" in finding(checks, "engine ncnn").advice
    fixed = classifier.model_copy(update={"engine": "keras"})
    checks = examine(settings.model_copy(update={"classifier": fixed}))
    assert finding(checks, "engine").finding == "keras, as the config says"


def test_status_tells_the_engine(settings: Settings) -> None:
    with open_log(settings.database.url, create=True) as log:
        assert dict(status_lines(status_of(settings, log)))["engine"] == "not opened yet"
        facts = {"description": "ncnn 1.0, CPU, float32", "trial": "ncnn (ncnn 5.0 images/s)"}
        log.put_state("engine", facts, utc_now())
        line = dict(status_lines(status_of(settings, log)))["engine"]
    assert line == "ncnn 1.0, CPU, float32; fastest here: ncnn (ncnn 5.0 images/s)"


def of_web(settings: Settings, **web: object) -> Check:
    """What the doctor says of the pages, served like this."""
    changed = settings.model_copy(update={"web": settings.web.model_copy(update=web)})
    return finding(examine(changed, [look_at_pages]), "pages")


def test_pages_that_others_could_reach_need_a_password_and_want_a_certificate(
    settings: Settings,
) -> None:
    assert (of_web(settings).state, of_web(settings).finding) == (OK, "http://127.0.0.1:8700")
    assert of_web(settings, enabled=False).finding == "not served (web.enabled)"
    open_door = of_web(settings, host="0.0.0.0")
    assert open_door.state == FAIL and "trapwatch web password" in open_door.advice
    Accounts(settings.data_directory).set_password("Ana", "a long walk in the forest")
    plain = of_web(settings, host="0.0.0.0")
    assert plain.state == WARN and "web.certificate" in plain.advice


def test_a_certificate_that_cannot_be_used_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    changed = settings.web.model_copy(update={"certificate": tmp_path / "no.pem"})
    checks = examine(settings.model_copy(update={"web": changed}), [look_at_pages])
    (told,) = [check for check in checks if check.state == FAIL]
    assert "web.certificate" in told.finding


def test_a_disk_that_hangs_between_two_looks_is_a_finding_and_no_end_of_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(*_: object) -> None:
        raise Hangs(errno.ETIMEDOUT, "the disk does not answer", "/mnt/usb")

    monkeypatch.setattr("monitor.health.log_checks.own_backups", hangs)
    told = finding(examine(settings), "backups")
    assert told.state == FAIL and "the disk does not answer" in told.finding
