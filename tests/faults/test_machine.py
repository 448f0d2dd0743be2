"""Anything in any order, in short; and that a label which is lost would be noticed."""

from __future__ import annotations

import shutil

import pytest

from .drill import Zygote
from .machine import Forgetful, drive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_whatever_happens_nothing_is_lost_or_double() -> None:
    drive(3, 8)


def test_a_log_that_forgets_labels_is_found_out() -> None:
    Forgetful.zygote, state = Zygote(), Forgetful()
    try:
        state.a_frame_comes(camera="north", species="red fox")
        state.runs_to_its_end()
        state.nothing_is_lost_or_double()
        state.a_person_labels(which=0, species="red fox")
        with pytest.raises(AssertionError, match="people said"):
            state.labels_are_what_people_said()
        with pytest.raises(AssertionError, match="newest label"):
            state.nothing_is_lost_or_double()
    finally:
        Forgetful.zygote.close()
        shutil.rmtree(state.drill.root)
