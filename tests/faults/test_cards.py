"""Some mishaps with cards and shares; a reader that believes errors would be reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import cards, shim
from .cards import drill_cards

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shim.why_not() is not None, reason=str(shim.why_not())),
]


@pytest.mark.parametrize(
    "kinds", [("pulled", "renamed"), ("unreadable", "hanging"), ("short", "readonly", "skewed")]
)
def test_the_service_goes_on_and_loses_nothing(kinds: tuple[str, ...], tmp_path: Path) -> None:
    report = drill_cards(tmp_path, len(kinds), kinds=kinds, seed=1)
    print(report)
    assert report.losses == report.crashes == []
    assert report.tries.total() == len(kinds)


def test_a_reader_that_believes_errors_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "GOES_ON_SECONDS", 4.0)
    report = drill_cards(tmp_path, 1, kinds=("unreadable",), broken="reading")
    assert any("lost" in loss for loss in report.losses)
