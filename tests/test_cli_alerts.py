"""`trapwatch alerts`, and what status and the doctor say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from receivers import free_port, webhook
from typer.testing import CliRunner, Result

from monitor.cli.app import app
from monitor.core.config import load_settings
from monitor.core.domain import utc_now
from monitor.health.doctor import examine
from monitor.log.species_log import open_log

BASE = "station: {name: Hut}\nclassifier: {backbone: small, threads: 1}\nweb: {enabled: false}\n"


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--config", str(folder / "config.yaml")])


def configure(folder: Path, **urls: str) -> None:
    (folder / "config.yaml").write_text(f"{BASE}alerts: {json.dumps({'urls': urls})}\n")


def test_a_test_sends_over_each_channel_now(tmp_path: Path) -> None:
    with webhook() as one, webhook() as two:
        configure(tmp_path, one=one.url(), two=two.url())
        done = run(tmp_path, "alerts", "test")
        assert done.exit_code == 0, done.output
        assert one.subjects == two.subjects == ["Hut: a test"]
    assert done.stderr.splitlines() == ["one (json): sent", "two (json): sent"]


def test_a_channel_that_fails_is_named_with_the_reason_and_without_its_address(
    tmp_path: Path,
) -> None:
    with webhook() as one:
        dead = f"json://ranger:geheim-4711@127.0.0.1:{free_port()}/token-0815"
        configure(tmp_path, good=one.url(), dead=dead)
        done = run(tmp_path, "alerts", "test")
        assert done.exit_code == 1
        assert "good (json): sent" in done.stderr
        assert "dead (json): failed: " in done.stderr and "Connection refused" in done.stderr
        facts = json.loads(run(tmp_path, "alerts", "test", "--json").stdout)
    assert [(f["channel"], f["sent"]) for f in facts] == [("good", True), ("dead", False)]
    for secret in ("geheim-4711", "token-0815", "ranger"):
        assert secret not in done.output + json.dumps(facts)


def test_with_nobody_to_tell_the_test_says_where_to_name_them(tmp_path: Path) -> None:
    configure(tmp_path)
    with pytest.raises(Exception, match=r"alerts\.urls"):
        CliRunner().invoke(
            app,
            ["alerts", "test", "--config", str(tmp_path / "config.yaml")],
            catch_exceptions=False,
        )


def _tell(folder: Path) -> None:
    settings = load_settings(folder / "config.yaml")
    now = utc_now()
    with open_log(settings.database.url, create=True) as log:
        sent = log.add_alert("species", "a", "lynx at north", "", ["mail"], now)
        log.delivered(sent, "mail", now)
        waits = log.add_alert("station", "b", "disk: trouble", "", ["mail", "chat"], now)
        log.delivery_failed(waits, "mail", "no route to host", now)
        log.give_up(waits, "chat", "403")


def test_the_list_shows_the_last_alerts_and_where_they_are(tmp_path: Path) -> None:
    configure(tmp_path, mail="mailto://ranger:geheim-4711@example.org")
    _tell(tmp_path)
    shown = run(tmp_path, "alerts", "list", "--limit", "5")
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.stdout.split())
    assert "lynx at north" in words and "disk: trouble" in words
    facts: list[dict[str, Any]] = json.loads(run(tmp_path, "alerts", "list", "--json").stdout)
    assert [f["subject"] for f in facts] == ["disk: trouble", "lynx at north"]
    ways = {way["channel"]: way for way in facts[0]["deliveries"]}
    assert ways["mail"]["state"] == "waiting" and ways["mail"]["problem"] == "no route to host"
    assert ways["chat"]["state"] == "failed"
    assert "geheim" not in shown.output + json.dumps(facts)


def test_the_status_counts_what_waits_and_what_was_given_up(tmp_path: Path) -> None:
    configure(tmp_path, mail="mailto://ranger:geheim-4711@example.org")
    _tell(tmp_path)
    facts = json.loads(run(tmp_path, "status", "--json").stdout)
    assert facts["alerts"] == {"on": True, "waiting": 1, "sent": 1, "failed": 1}
    lines = " ".join(run(tmp_path, "status").output.split())
    assert "1 waiting to be sent, 1 given up" in lines
    assert "geheim" not in json.dumps(facts) + lines


def test_the_doctor_names_the_channels_and_a_config_that_others_may_read(tmp_path: Path) -> None:
    configure(tmp_path, mail="mailto://ranger:geheim-4711@example.org")
    config = tmp_path / "config.yaml"
    config.chmod(0o644)
    checks = [c for c in examine(load_settings(config)) if c.name == "alerts"]
    assert [c.state for c in checks] == ["ok", "warn"]
    assert checks[0].finding == "mail (mailto)" and "chmod o=" in checks[1].advice
    config.chmod(0o640)
    assert [c.state for c in examine(load_settings(config)) if c.name == "alerts"] == ["ok"]
