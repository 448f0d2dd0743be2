"""The live model's files are damaged: the newest sound version before it labels, or none does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from faults.drill import Drill, Zygote, draw_frame, fill
from faults.losses import losses
from faults.systemd import wait_until
from field import LAYOUT, NOW, Camp, jpeg, sure_of

from monitor.core.domain import ModelState, Observation, RunState
from monitor.health.verdict import HealthFacts, Level, health
from monitor.log.engine import LogError
from monitor.log.species_log import SpeciesLog
from monitor.model.versions import HEAD_FILE, ModelDamaged, ModelStore
from monitor.pipeline.live import LiveModel
from monitor.recovery.label_journal import bring_together, catch_up
from monitor.service.cleaning import weights_to_drop
from monitor.training.schedule import training_facts

EAGER = "import monitor.health.alert_news; monitor.health.alert_news.LOOK_SECONDS = 1.0"
"""Run in a service before its start: it looks each second for what people should be told."""


@pytest.fixture
def camp(tmp_path: Path) -> Iterator[Camp]:
    """A camp with three versions, each sure of an animal of its own; the third is live."""
    one = Camp(tmp_path)
    for name, species in (("v0001", "hare"), ("v0002", "badger"), ("v0003", "red fox")):
        one.publish(name, sure_of(species))
    yield one
    one.close()


def spoil(store: ModelStore, name: str) -> bytes:
    """Change one byte of a version's weights; returns them as they are now."""
    file = store.path(name) / HEAD_FILE
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    return bytes(content)


def states(log: SpeciesLog) -> dict[str, str]:
    return {row.name: row.state.value for row in log.versions()}


def acts(camp: Camp) -> list[tuple[str, str, str, dict[str, str]]]:
    rows = camp._rows("SELECT kind, by, how, details FROM act WHERE kind = 'roll-back' ORDER BY id")
    return [(kind, by, how, json.loads(details)) for kind, by, how, details in rows]


def test_the_version_before_a_damaged_one_labels_and_every_word_names_who_said_it(
    camp: Camp,
) -> None:
    camp.put("a/1.jpg", jpeg(1))
    camp.everything()
    assert camp.sightings()["1.jpg"] == ("red fox", "v0003", "prediction")
    content = spoil(camp.store, "v0003")
    camp.live = LiveModel(camp.store, camp.log, lambda: camp.clock)  # as after a restart
    camp.pipeline.close()
    camp.pipeline = camp.new_pipeline()
    camp.put("a/2.jpg", jpeg(2))
    camp.everything()
    assert camp.sightings() == {
        "1.jpg": ("badger", "v0002", "prediction"),
        "2.jpg": ("badger", "v0002", "prediction"),
    }
    assert states(camp.log) == {"v0001": "retired", "v0002": "live", "v0003": "damaged"}
    ((kind, by, how, details),) = acts(camp)
    assert (kind, by, how) == ("roll-back", "station", "station")
    assert (details["from"], details["to"]) == ("v0003", "v0002")
    assert "SHA-256" in details["damaged"] and "SHA-256" in camp.log.version("v0003").reason
    assert (camp.store.path("v0003") / HEAD_FILE).read_bytes() == content, "kept as evidence"


def test_versions_that_are_damaged_too_or_of_another_backbone_are_passed_over(camp: Camp) -> None:
    camp.publish("v0004", replace(sure_of("lynx"), layout="other/1"))
    camp.log.go_live("v0003", "test", "test", NOW)
    spoil(camp.store, "v0002")
    shutil.rmtree(camp.store.path("v0003"))
    assert camp.live.follow() is True
    assert (camp.live.name, camp.log.live_version().name) == ("v0001", "v0001")


def test_where_no_earlier_version_is_sound_none_labels_and_frames_keep_their_features(
    camp: Camp,
) -> None:
    for name in ("v0001", "v0002", "v0003"):
        spoil(camp.store, name)
    camp.put("a/1.jpg", jpeg(1))
    camp.everything()
    assert camp.sightings()["1.jpg"] == (None, None, "none")
    assert camp.features.count() == 1
    assert states(camp.log) == {"v0001": "retired", "v0002": "retired", "v0003": "damaged"}
    assert camp.log.live_version() is None
    assert camp.log.damaged_version().name == "v0003"
    camp.publish("v0004", sure_of("lynx"))
    camp.everything()
    assert camp.sightings()["1.jpg"] == ("lynx", "v0004", "prediction")
    assert camp.log.damaged_version() is None, "settled by the next one"


def test_where_none_labels_all_labels_call_for_a_training_again(camp: Camp) -> None:
    camp.put("a/1.jpg", jpeg(1))
    camp.everything()
    camp.log.label([1], [Observation("hare")], "Ana", "cli", NOW, insist=True)
    run = camp.log.start_run("head", "schedule", 7, NOW)
    camp.log.finish_run(run, RunState.SUCCEEDED, "better", NOW)
    assert training_facts(camp.log).new_labels == 0
    camp.log.fall_back("v0003", "v0002", "damaged", NOW)
    assert training_facts(camp.log).new_labels == 0, "another one labels"
    camp.log.fall_back("v0002", None, "damaged", NOW)
    assert training_facts(camp.log).new_labels == 1


def test_a_damaged_version_is_chosen_again_only_when_somebody_promotes_it(camp: Camp) -> None:
    kept = (camp.store.path("v0003") / HEAD_FILE).read_bytes()
    spoil(camp.store, "v0003")
    camp.live.follow()
    (camp.store.path("v0003") / HEAD_FILE).write_bytes(kept)
    assert camp.live.follow() is False
    assert camp.log.live_version().name == "v0002"
    assert camp.log.roll_back("Ana", NOW) == "v0001"
    assert camp.log.damaged_version() is None, "a person has looked after it"
    camp.log.go_live("v0003", "promoted by Ana", "Ana", NOW)
    assert states(camp.log)["v0003"] == "live"
    assert camp.live.follow() is True and camp.live.name == "v0003"


def test_one_read_that_fails_condemns_nothing(camp: Camp, monkeypatch: pytest.MonkeyPatch) -> None:
    load, failures = camp.store.load, iter([ModelDamaged("a bit fell over")])

    def once_wrong(name: str, sha256: str | None) -> object:
        if (failure := next(failures, None)) is not None:
            raise failure
        return load(name, sha256)

    monkeypatch.setattr(camp.store, "load", once_wrong)
    assert camp.live.follow() is True
    assert (camp.live.name, states(camp.log)["v0003"]) == ("v0003", "live")


def test_what_the_log_could_not_be_told_is_tried_again(
    camp: Camp, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(camp.store, "v0003")
    with monkeypatch.context() as patch:
        patch.setattr(camp.log, "fall_back", lambda *words: (_ for _ in ()).throw(LogError("full")))
        for _ in range(2):
            with pytest.raises(LogError):
                camp.live.follow()
    assert camp.live.follow() is True
    assert camp.live.name == "v0002"


def test_a_person_who_was_quicker_has_the_last_word(camp: Camp) -> None:
    camp.log.go_live("v0001", "promoted by Ana", "Ana", NOW)
    camp.log.fall_back("v0003", "v0002", "its files are damaged", NOW)
    assert states(camp.log) == {"v0001": "live", "v0002": "retired", "v0003": "retired"}


def test_a_damaged_card_is_told_and_its_model_labels_on(camp: Camp) -> None:
    card = camp.store.path("v0003") / "model_card.json"
    card.chmod(0o644)
    card.write_text("{")
    assert camp.live.follow() is True
    assert (camp.live.name, camp.live.problem) == ("v0003", None)
    assert "not JSON" in camp.live.card_problem
    assert states(camp.log)["v0003"] == "live"


def test_the_cleaner_leaves_a_damaged_version_as_it_is(camp: Camp) -> None:
    content = spoil(camp.store, "v0003")
    camp.live.follow()
    for number in range(4, 30):
        camp.publish(f"v{number:04d}", sure_of("hare"))
    dropped = weights_to_drop(camp.log.versions(), camp.log.order_of_going_live(), 1)
    assert "v0002" in dropped and "v0003" not in dropped
    assert (camp.store.path("v0003") / HEAD_FILE).read_bytes() == content


def test_the_journal_brings_a_fall_back_into_a_log_that_lacks_it(
    camp: Camp, tmp_path: Path
) -> None:
    spoil(camp.store, "v0003")
    camp.live.follow()
    for name in ("v0001", "v0002"):
        spoil(camp.store, name)
    camp.live = LiveModel(camp.store, camp.log, lambda: camp.clock)
    camp.live.follow()
    journal = tmp_path / "labels.jsonl"
    catch_up(journal, camp.log, NOW)
    expected = states(camp.log)
    assert expected == {"v0001": "retired", "v0002": "damaged", "v0003": "damaged"}
    with SpeciesLog(tmp_path / "other.db", create=True) as other:
        for name in expected:
            state, layout = ModelState.CANDIDATE, LAYOUT.name
            other.add_version(name, state, "small", layout, "0" * 64, "", {}, NOW)
        bring_together(journal, other, NOW + timedelta(days=1))
        assert states(other) == expected
        assert other.live_version() is None


@pytest.mark.parametrize(
    ("has_model", "level", "words"),
    [(True, Level.DEGRADED, "labels in its place"), (False, Level.FAILING, "wait for a new model")],
)
def test_the_health_says_what_became_of_a_damaged_model(
    has_model: bool, level: Level, words: str
) -> None:
    found = health(HealthFacts(False, has_model, True, {}, damaged="v0003"))
    (reason,) = [r for r in found.reasons if r.check == "damage"]
    assert reason.level is level and words in reason.words
    assert "trapwatch models promote v0003" in reason.advice
    assert "damage" not in health(HealthFacts(False, has_model, True, {})).checks


def classified(drill: Drill) -> int:
    return drill.number("SELECT count(*) FROM media WHERE status = 'classified'")


def status(drill: Drill) -> dict[str, object]:
    facts: dict[str, object] = json.loads(drill.trapwatch("status", "--json").stdout)
    return facts


def words_of(drill: Drill, name: str) -> set[str]:
    """The versions that spoke of a frame."""
    rows = drill.query(
        "SELECT v.name FROM prediction p JOIN model_version v ON v.id = p.model_version_id "
        "JOIN media m ON m.id = p.media_id WHERE m.path LIKE ?",
        f"%{name}",
    )
    return {row[0] for row in rows}


def test_a_service_whose_model_is_damaged_labels_with_the_one_before(
    drill: Drill, zygote: Zygote
) -> None:
    alerts = 'alerts: {urls: {hook: "json://127.0.0.1:9/x"}}\n'
    drill.config.write_text(drill.config.read_text() + alerts)
    fill(drill)
    for command in (
        ("run", "--once"),
        ("label", "import-folder", str(drill.sorted)),
        ("train", "--force"),
        ("train", "--force"),
        ("models", "promote", "v0002", "--by", "Ana"),
        ("run", "--once"),
    ):
        assert zygote.run(drill, *command) == 0, command
    eager = drill.command("run", code=EAGER)
    before, store = classified(drill), ModelStore(drill.data / "models")
    with drill.service(command=eager):  # the first look for news only notes how things are
        wait_until(lambda: drill.number("SELECT count(*) FROM state WHERE key = 'alerts seen'"))
    kept = (store.path("v0002") / HEAD_FILE).read_bytes()
    content = spoil(store, "v0002")
    draw_frame_at(drill, "late.jpg", 1)
    with drill.service(command=eager) as service:
        wait_until(lambda: classified(drill) == before + 1, 60)
        wait_until(lambda: "v0001" in words_of(drill, "late.jpg"), 30)
        told = "SELECT count(*) FROM alert WHERE key = 'damage'"
        wait_until(lambda: drill.number(told) == 1, 60)
        facts = status(drill)
        assert facts["live_model"]["name"] == "v0001"
        assert facts["health"]["checks"]["damage"] == "degraded"
        lines = drill.trapwatch("status").stdout
        assert "v0002 are damaged" in " ".join(lines.split())
        assert "damaged model" in drill.trapwatch("doctor").stdout
        assert (store.path("v0002") / HEAD_FILE).read_bytes() == content
        refused = drill.trapwatch("models", "promote", "v0002", "--by", "Ana")
        assert refused.returncode == 1 and "SHA-256" in refused.stderr
        (store.path("v0002") / HEAD_FILE).write_bytes(kept)
        assert drill.trapwatch("models", "promote", "v0002", "--by", "Ana").returncode == 0
        draw_frame_at(drill, "later.jpg", 2)
        wait_until(lambda: words_of(drill, "later.jpg") == {"v0002"}, 60)
        assert "damage" not in status(drill)["health"]["checks"]
        assert service.poll() is None
    assert losses(drill) == []


def draw_frame_at(drill: Drill, name: str, day: int) -> None:
    at = NOW.replace(tzinfo=None) + timedelta(days=day)
    draw_frame(drill.frames / "north" / name, "red fox", at, 7000 + day)
