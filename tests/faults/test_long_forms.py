"""The list of long forms: each can be started, and a control that stumbles does not count."""

from __future__ import annotations

from importlib.util import find_spec

from . import long_forms
from .long_forms import FORMS, TOP, has_reported


def test_every_form_names_a_drill_that_is_there() -> None:
    for form in FORMS.values():
        for command in (form.long, *form.controls):
            module, *words = command.split()
            assert find_spec(module) is not None, command
            for word in words:
                assert (TOP / word).exists() or not word.startswith("tests/"), command


def test_every_drill_that_can_be_broken_has_its_control() -> None:
    drills = {form.long.split()[0] for form in FORMS.values() if form.controls}
    breakable = {
        f"tests.faults.{page.stem}"
        for page in (TOP / "tests" / "faults").glob("*.py")
        if page.stem[:5] != "test_" and '--break"' in page.read_text()
    }
    assert breakable <= drills


def test_a_control_counts_only_if_it_names_a_loss() -> None:
    assert has_reported(["machine: x", "faults: 3"])
    assert has_reported(["resident_mb grew by 94 MB from 366"])
    assert not has_reported(["faults: 0", "lost or double: 0"])
    assert not has_reported(["Traceback", "ModuleNotFoundError: No module named 'psutil'"])


def test_what_is_listed_is_what_the_page_names() -> None:
    page = (TOP / "docs" / "reliability.md").read_text(encoding="utf-8")
    for name in FORMS:
        assert f"`{name}`" in page, name
    assert long_forms.SAVED.name == "faults"
