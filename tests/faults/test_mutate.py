"""Damaged photographs end as one media row each, classified or rejected with a reason."""

from __future__ import annotations

from pathlib import Path

from .mutate import feed


def test_damaged_photographs_never_crash_it_and_none_is_passed_over(tmp_path: Path) -> None:
    report = feed(tmp_path / "station", 300, seed=3)
    print(report)
    assert report.faults == []
    assert report.media["classified"] > 30
    assert report.media["rejected"] > 30


def test_a_reader_that_is_let_raise_is_found_out(tmp_path: Path) -> None:
    report = feed(tmp_path / "station", 50, seed=3, broken="refusing")
    print(report)
    assert report.faults
