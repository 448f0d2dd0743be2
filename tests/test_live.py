"""Which model labels: the log's live version, loaded once, damaged ones passed over."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from field import LAYOUT, NOW, Camp, sure_of

from monitor.core.domain import ModelState
from monitor.model.backbone import layout_of
from monitor.model.backbone.architectures import VGG16, block_of
from monitor.model.backbone.tail import Tail


@pytest.fixture
def camp(tmp_path):
    one = Camp(tmp_path)
    yield one
    one.close()


def head_of(camp: Camp):
    return camp.live.head_for(LAYOUT.name, LAYOUT.size)


def test_without_a_version_there_is_no_head(camp):
    assert camp.live.follow() is False
    assert (camp.live.name, head_of(camp), camp.live.problem) == (None, None, None)


def test_a_version_is_loaded_when_it_goes_live_and_only_then(camp, monkeypatch):
    camp.publish("v0001", sure_of("red fox"))
    assert camp.live.follow() is True
    monkeypatch.setattr(camp.store, "load", lambda *a: pytest.fail("loaded again"))
    assert [camp.live.follow() for _ in range(3)] == [False] * 3
    assert camp.live.name == "v0001"
    assert head_of(camp).classes[0] == "red fox"


def test_a_candidate_is_not_live(camp):
    camp.publish("v0001", sure_of("red fox"), live=False)
    assert camp.live.follow() is False
    assert camp.live.name is None


def test_the_next_version_takes_over_and_a_roll_back_brings_the_one_before(camp):
    camp.publish("v0001", sure_of("red fox"))
    camp.live.follow()
    camp.publish("v0002", sure_of("badger"))
    assert camp.live.follow() is True
    assert head_of(camp).classes[0] == "badger"
    camp.log.roll_back("anna", NOW)
    assert camp.live.follow() is True
    assert camp.live.name == "v0001"


def test_while_no_model_can_be_read_at_all_it_is_told_once_and_the_head_in_use_goes_on(
    camp, caplog
):
    """A disk of models that is not mounted proves nothing against what lies on it."""
    for name in ("v0001", "v0002"):
        camp.publish(name, sure_of(name))
        camp.live.follow()
    away = camp.store.directory.rename(camp.store.directory.with_name("away"))
    camp.log.go_live("v0001", "test", "test", NOW)
    assert [camp.live.follow() for _ in range(5)] == [False] * 5
    assert (camp.live.name, camp.log.live_version().name) == ("v0002", "v0001")
    assert "v0001" in camp.live.problem
    assert sum(r.levelno >= logging.ERROR for r in caplog.records) == 1
    away.rename(camp.store.directory)
    assert camp.live.follow() is True
    assert (camp.live.name, camp.live.problem) == ("v0001", None)


def test_a_version_of_an_impossible_name_does_not_stop_anything(camp):
    camp.log.add_version("../x", ModelState.CANDIDATE, "small", LAYOUT.name, "0" * 64, "", {}, NOW)
    camp.log.go_live("../x", "test", "test", NOW)
    camp.live.follow()
    assert (camp.live.name, camp.log.live_version()) == (None, None)
    assert "no model version" in camp.log.version("../x").reason


def test_a_head_for_other_features_is_not_used(camp):
    camp.publish("v0001", replace(sure_of("red fox"), layout="other/1"))
    camp.live.follow()
    assert head_of(camp) is None
    assert "other/1" in camp.live.problem
    assert camp.live.head_for("other/1", LAYOUT.size) is not None
    assert camp.live.head_for("other/1", LAYOUT.size + 1) is None


def test_when_no_version_is_live_any_more_none_labels(camp, monkeypatch):
    camp.publish("v0001", sure_of("red fox"))
    camp.live.follow()
    monkeypatch.setattr(camp.log, "live_version", lambda: None)
    assert camp.live.follow() is True
    assert (camp.live.name, head_of(camp)) == (None, None)


# --- a tail: tests/test_tail.py has it at work


def test_the_tail_is_given_once_after_each_change(camp):
    shapes = {n: shape for n, shape in VGG16.shapes.items() if block_of(n) == 5}
    tail = Tail.of("vgg16", {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    head = replace(sure_of("red fox"), layout=tail.name_on(layout_of("vgg16").name))
    camp.publish("v0001", sure_of("badger"))
    assert camp.live.layout is None
    camp.live.follow()
    assert (camp.live.layout, camp.live.take_tail()) == (LAYOUT.name, None)
    camp.publish("v0002", head, tail=tail)
    camp.live.follow()
    assert camp.live.layout == head.layout
    assert camp.live.take_tail() == tail
    assert camp.live.take_tail() is None
    camp.log.roll_back("anna", NOW)
    camp.live.follow()
    assert (camp.live.layout, camp.live.take_tail()) == (LAYOUT.name, None)
