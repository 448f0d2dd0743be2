"""Reasons to rest: given, taken back, told."""

import logging
import threading

import pytest

from monitor.core.pauses import CLASSIFY, INTAKE, KINDS_OF_WORK, TRAIN, Reason, Rest, resting_lines

FULL = Reason(frozenset(KINDS_OF_WORK), "disk full, 310 MB free; 500 needed")
NIGHT = Reason(frozenset({CLASSIFY, TRAIN}), "it is day")


def test_work_does_not_rest_without_a_reason():
    rest = Rest()
    assert rest.words(INTAKE) is None
    assert rest.reasons(INTAKE) == []
    assert rest.facts() == {}


def test_each_kind_of_work_has_its_own_reasons():
    rest = Rest()
    rest.set("hours", NIGHT)
    rest.set("disk", FULL)
    assert rest.reasons(INTAKE) == ["disk full, 310 MB free; 500 needed"]
    assert rest.words(CLASSIFY) == "it is day; disk full, 310 MB free; 500 needed"
    rest.set("disk", None)
    assert rest.words(INTAKE) is None
    assert rest.words(TRAIN) == "it is day"


def test_a_reason_that_is_given_again_takes_the_place_of_the_one_before():
    rest = Rest()
    rest.set("disk", FULL)
    rest.set("disk", Reason(frozenset({TRAIN}), "disk low"))
    assert rest.facts() == {TRAIN: "disk low"}


def test_a_reason_is_told_when_it_comes_and_goes_not_each_time_it_is_given(caplog):
    caplog.set_level(logging.INFO)
    rest = Rest()
    rest.set("disk", None)
    for free in (310, 309, 308):
        rest.set("disk", Reason(frozenset({CLASSIFY}), f"disk full, {free} MB free"))
    rest.set("disk", None)
    assert [r.getMessage() for r in caplog.records] == [
        "classifying rests: disk full, 310 MB free",
        "classifying rests no more: disk",
    ]


@pytest.mark.parametrize(
    ("facts", "lines"),
    [
        ({}, []),
        ({CLASSIFY: "it is day"}, ["classifying rests: it is day"]),
        (
            {INTAKE: "full", CLASSIFY: "day; full", TRAIN: "day; full"},
            ["intake rests: full", "classifying, training rest: day; full"],
        ),
    ],
)
def test_people_read_one_line_for_each_reason(facts, lines):
    assert resting_lines(facts) == lines


def test_threads_may_give_and_ask_at_once():
    rest, stop = Rest(), threading.Event()
    failures = []

    def give(name: str) -> None:
        try:
            while not stop.is_set():
                rest.set(name, NIGHT)
                rest.facts()
                rest.set(name, None)
        except RuntimeError as error:
            failures.append(error)

    threads = [threading.Thread(target=give, args=(f"reason {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2000):
        rest.words(CLASSIFY)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == [] and rest.facts() == {}
