"""Labels from CSV files and sorted folders: bad rows are told, the others go in, twice is once."""

from __future__ import annotations

import csv
import io
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logbook import NOW, frames, item, rows, take_in

from monitor.core.domain import How, Observation
from monitor.exchange.labels import (
    ImportFailed,
    LabelRow,
    how_of,
    import_labels,
    rows_of_csv,
    rows_of_folder,
)

JPG = frozenset({".jpg"})


@pytest.fixture
def read(tmp_path):
    """What a CSV file of this content says."""

    def read(content: str | bytes) -> list[LabelRow | str]:
        path = tmp_path / "labels.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(rows_of_csv(path))

    return read


@pytest.fixture
def run(log, tmp_path):
    """Import a CSV file of this content into the log."""

    def run(content: str | bytes):
        path = tmp_path / "labels.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)

        def label(media_id, row):
            said = log.label([media_id], row.observations, row.by or "Ana", How.CSV, NOW, once=True)
            return bool(said.media_ids), said.new_species

        return import_labels(rows_of_csv(path), log.media_of_path, label)

    return run


def test_rows_become_labels_with_all_their_fields(read, tmp_path):
    (row,) = read(
        "path,species,count,by,sex,life_stage,behaviour\n"
        "a.jpg, red fox ,2,Ben,female,adult,foraging\n"
    )
    observation = Observation("red fox", 2, "female", "adult", "foraging")
    assert row == LabelRow("line 2", os.fsencode(tmp_path / "a.jpg"), (observation,), "Ben")


def test_two_rows_of_one_path_are_one_label_with_two_species(read):
    (row, other) = read("path,species\n/a,fox\n/a,hare\n/a,fox\n/b,fox\n")
    assert [o.species for o in row.observations] == ["fox", "hare"]
    assert other.path == b"/b"


def test_bad_rows_are_told_with_their_line_and_the_others_go_in(run, log):
    good, other, _ = frames(log, 3)
    log.add_species("fox", "Ana", "cli", NOW)
    report = run(
        "path,species,count\n"
        "/frames/north/0000.jpg,red deer,1\n"
        ",fox,\n"
        "/frames/north/0001.jpg,,\n"
        "/frames/north/0001.jpg,fox,two\n"
        "/frames/north/none.jpg,fox,\n"
        "/frames/north/0002.jpg,red dear,\n"
        "/frames/north/0001.jpg,fox,0\n"
        "\n"
        "/frames/north/0001.jpg,fox,3,surplus,fields\n"
    )
    assert (report.labelled, report.said_before) == (2, 0)
    told = sorted(fault.split(": ", 1)[0] for fault in report.faults)
    assert told == [f"line {n}" for n in (3, 4, 5, 6, 7, 8)]
    assert any("'red deer' is; write that" in fault for fault in report.faults)
    assert report.new_species == ("red deer",)
    assert log.sightings_of([good])[0].species == "red deer"
    assert log.sightings_of([other])[0].observations == (Observation("fox", 3),)


def test_an_import_can_be_repeated(run, log):
    frames(log, 2)
    content = "path,species\n/frames/north/0000.jpg,fox\n/frames/north/0001.jpg,hare\n"
    assert run(content).labelled == 2
    before = rows(log, "SELECT * FROM label")
    again = run(content)
    assert (again.labelled, again.said_before, again.faults) == (0, 2, ())
    assert rows(log, "SELECT * FROM label") == before


def test_paths_that_are_not_utf_8_are_found(run, log):
    (media_id,) = take_in(log, [item(b"/frames/caf\xe9.jpg")])
    assert run(b"path,species\n/frames/caf\xe9.jpg,fox\n").labelled == 1
    assert log.sightings_of([media_id])[0].species == "fox"


def test_a_species_that_is_not_utf_8_is_a_fault_of_its_line(run, log):
    frames(log, 1)
    report = run(b"path,species\n/frames/north/0000.jpg,f\xf6x\n")
    assert report.faults == ("line 2: the species f\\xf6x is not UTF-8",)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(read):
    (row,) = read(b"\xef\xbb\xbfpath,species\r\n/a.jpg,fox\r\n")
    assert row.observations[0].species == "fox"


def test_a_field_without_end_is_told_and_the_rest_goes_in(read):
    assert isinstance(read("path,species\n/a," + "x" * 200_000 + "\n/b,fox\n")[-1], LabelRow)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("file,what\n", "no column path and no column species"),
        ("", "no column"),
        ("path\n", "spec"),
    ],
)
def test_a_file_without_the_columns_is_refused(read, content, words):
    with pytest.raises(ImportFailed, match=words):
        read(content)


def test_a_first_line_without_end_is_refused(read):
    with pytest.raises(ImportFailed, match="its first line is no list of columns"):
        read("x" * 200_000 + ",path,species\na.jpg,red fox\n")


def test_a_zero_byte_is_a_fault_of_its_line(read):
    fault, row = read("path,species,sex\na.jpg,red fox,f\0\nb.jpg,red fox,\n")
    assert fault.startswith("line 2: the sex")
    assert isinstance(row, LabelRow)


def test_a_name_that_nobody_could_write_is_a_fault_of_its_line(read):
    (fault,) = read("path,species,by\na.jpg,red fox," + "x" * 100_000 + "\n")
    assert fault == "line 2: the by has 100,000 letters; at most 1,000"
    (fault,) = read("path,species\n" + "x" * 100_000 + ",red fox\n")
    assert fault.startswith("line 2: the path is longer than")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ImportFailed, match="cannot be read: No such file"):
        list(rows_of_csv(tmp_path / "none.csv"))


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\r"), max_size=12
) | st.sampled_from(["fox", "2", "/frames/north/0000.jpg", "../x", "\0", '"', "²"])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(table=st.lists(st.lists(cells, max_size=5), max_size=6))
def test_whatever_stands_in_a_csv_every_row_is_labelled_or_told(run, log, table):
    if not log.counts()["media"]:
        frames(log, 1)
    text = io.StringIO()
    csv.writer(text).writerows([["path", "species", "count", "by"], *table])
    report = run(text.getvalue())
    assert all(fault.startswith("line ") for fault in report.faults)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(noise=st.binary(max_size=200))
def test_no_bytes_make_an_import_fail_without_words(run, log, noise):
    report = run(b"path,species\n" + noise)
    assert report.labelled == 0


def test_a_folder_names_the_species_of_what_lies_below(tmp_path):
    for name in ("red_fox/a.jpg", "red_fox/deep/B.JPG", "hare/c.jpg", "hare/notes.txt"):
        path = tmp_path / "sorted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for hidden in (".trash/x.jpg", "hare/._c.jpg"):
        path = tmp_path / "sorted" / hidden
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "sorted" / "loose.jpg").touch()
    found = [
        (os.path.basename(row.path), row.observations[0].species)
        for row in rows_of_folder(tmp_path / "sorted", JPG)
    ]
    assert found == [(b"c.jpg", "hare"), (b"a.jpg", "red fox"), (b"B.JPG", "red fox")]


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ImportFailed, match="one folder for each species"):
        list(rows_of_folder(tmp_path / "none", JPG))


def test_the_way_a_label_came_is_remembered(tmp_path):
    assert how_of(tmp_path) is How.FOLDER
    assert how_of(tmp_path / "labels.csv") is How.CSV
