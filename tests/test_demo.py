"""The demo is the whole loop, on the real service and the real VGG16."""

from pathlib import Path

import pytest
from PIL import Image

from monitor.cli.demo.story import DemoFailed, run_demo, run_on_photographs
from monitor.core.config import load_settings
from monitor.log.species_log import open_log


@pytest.mark.slow
@pytest.mark.timeout(900)  # a training steps back behind all that runs beside it
def test_the_demo_ends_with_a_live_model_that_names_unlabelled_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "demo"
    score = run_demo(directory, seed=3, frames=90)
    assert score.accuracy >= 0.7  # a third of the demo's world; the whole one reaches 0.9
    said = capsys.readouterr().out
    assert "v0001 is live" in said
    assert "the demo's own truth" in said
    with open_log(load_settings(directory / "config.yaml").database.url) as log:
        counts = log.counts()
        assert counts["classified"] == counts["media"] == 90
        assert counts["predicted_by_live"] >= 90 - counts["labelled"]


@pytest.mark.slow
def test_the_demo_takes_the_users_own_photographs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs = tmp_path / "card"
    photographs.mkdir()
    for number, colour in enumerate(("olive", "navy")):
        Image.new("RGB", (640, 480), colour).save(photographs / f"IMG_{number}.JPG")
    run_on_photographs(tmp_path / "demo", photographs)
    said = capsys.readouterr().out
    assert "2 media: 2 classified, 0 rejected" in said
    assert " label queue --config " in said
    assert sorted(p.name for p in photographs.iterdir()) == ["IMG_0.JPG", "IMG_1.JPG"]


def test_the_demo_leaves_a_folder_alone_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DemoFailed, match="name another --dir"):
        run_demo(tmp_path, seed=1)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_demo_wants_a_folder_of_photographs(tmp_path: Path) -> None:
    with pytest.raises(DemoFailed, match="no folder"):
        run_on_photographs(tmp_path / "demo", tmp_path / "nothing")
