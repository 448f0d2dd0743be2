"""Model versions on disk: whole or not at all, verified before use, never able to run code."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from monitor.model import versions as models
from monitor.model.backbone import layout_of
from monitor.model.backbone.architectures import VGG16, block_of
from monitor.model.backbone.tail import Tail
from monitor.model.head import Head
from monitor.model.head_file import head_bytes, head_from_bytes
from monitor.model.versions import ModelDamaged, ModelError, ModelStore


def a_head(d: int = 6, classes: tuple[str, ...] = ("blank", "red fox", "Дикая кошка")) -> Head:
    rng = np.random.default_rng(1)

    def numbers(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    k = len(classes)
    return Head(
        classes, numbers(d), np.abs(numbers(d)) + 0.1, numbers(d, k), numbers(k), 1.7, "small/1"
    )


@pytest.fixture(scope="module")
def tail() -> Tail:
    shapes = {n: shape for n, shape in VGG16.shapes.items() if block_of(n) == 5}
    return Tail.of("vgg16", {name: np.ones(shape, np.float32) for name, shape in shapes.items()})


def head_with(tail: Tail, base: str = layout_of("vgg16").name) -> Head:
    return replace(a_head(), layout=tail.name_on(base))


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def publish(store: ModelStore, name: str = "v0001") -> str:
    return store.publish(name, a_head(), {"version": name}, "# Model\n")


def test_a_published_head_comes_back_exactly(store: ModelStore) -> None:
    sha256 = publish(store)
    head = store.load_head("v0001", sha256)
    expected = a_head()
    for name in ("mean", "scale", "weights", "bias"):
        assert np.array_equal(getattr(head, name), getattr(expected, name))
    assert (head.classes, head.temperature, head.layout) == (
        expected.classes,
        expected.temperature,
        expected.layout,
    )
    features = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    assert np.array_equal(head.probabilities(features), expected.probabilities(features))


def test_the_sum_is_that_of_the_file_and_is_in_the_card(store: ModelStore) -> None:
    sha256 = publish(store)
    content = (store.directory / "v0001" / "head.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == sha256
    assert store.card("v0001") == {"version": "v0001", "weights_sha256": sha256}
    assert store.load_head("v0001", None).classes == a_head().classes


def test_names_count_up_past_everything_known_and_left_over(store: ModelStore) -> None:
    assert store.next_name() == "v0001"
    publish(store, "v0003")
    assert store.next_name() == "v0004"
    (store.directory / ".v0007.partial").mkdir()
    assert store.next_name() == "v0008"
    assert store.next_name(["v0009", "something else"]) == "v0010"
    assert store.next_name(["v99999"]) == "v100000"


def test_a_published_version_is_never_changed(store: ModelStore) -> None:
    publish(store)
    before = {p.name: p.read_bytes() for p in (store.directory / "v0001").iterdir()}
    with pytest.raises(ModelError, match="exists already"):
        store.publish("v0001", replace(a_head(), temperature=2.0), {}, "")
    assert {p.name: p.read_bytes() for p in (store.directory / "v0001").iterdir()} == before
    modes = {p.stat().st_mode & 0o777 for p in (store.directory / "v0001").iterdir()}
    assert modes == {0o440}, "nobody writes, and others than its group do not read"


def test_an_empty_directory_of_that_name_is_not_taken_over(store: ModelStore) -> None:
    (store.directory / "v0001").mkdir(parents=True)
    with pytest.raises(ModelError, match="exists already"):
        publish(store)


@pytest.mark.parametrize("step", ["fsync", "rename", "fchmod"])
def test_a_kill_or_a_full_disk_while_publishing_leaves_no_version(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(models.os, step, fail)
        with pytest.raises(ModelError, match="No space left on device"):
            publish(store)
    assert store.names() == []
    assert list(store.directory.iterdir()) == []
    publish(store)
    assert store.names() == ["v0001"]


def test_leftovers_of_a_kill_are_removed_and_nothing_else(store: ModelStore) -> None:
    publish(store)
    left = store.directory / ".v0002.partial"
    left.mkdir()
    (left / "head.safetensors").write_bytes(b"half")
    (store.directory / ".notes").mkdir()
    elsewhere = store.directory.parent / "precious"
    elsewhere.mkdir()
    (store.directory / ".v0003.partial").symlink_to(elsewhere)
    assert store.remove_partials() == ["v0002"]
    assert store.names() == ["v0001"]
    assert (store.directory / ".notes").is_dir() and elsewhere.is_dir()
    assert ModelStore(store.directory / "not there").remove_partials() == []


def test_a_leftover_of_the_same_name_is_written_anew(store: ModelStore) -> None:
    (store.directory / ".v0001.partial").mkdir(parents=True)
    (store.directory / ".v0001.partial" / "head.safetensors").write_bytes(b"half")
    sha256 = publish(store)
    assert store.load_head("v0001", sha256).layout == "small/1"


@pytest.mark.parametrize(
    "name", ["../v0001", "v0001/../../etc", "/etc", "..", "", "v1", "v0001\n", "v0001.partial"]
)
def test_a_name_cannot_lead_out_of_the_directory(store: ModelStore, name: str) -> None:
    with pytest.raises(ModelError, match="is no model version"):
        store.load_head(name, None)
    with pytest.raises(ModelError, match="is no model version"):
        store.card(name)
    with pytest.raises(ModelError, match="is no model version"):
        store.publish(name, a_head(), {}, "")


@pytest.mark.parametrize("plot", ["../x.svg", "head.safetensors", "a/b.png", ".x.svg"])
def test_a_plot_cannot_be_written_elsewhere_or_over_something(store: ModelStore, plot: str) -> None:
    with pytest.raises(ModelError, match="is no name for a plot"):
        store.publish("v0001", a_head(), {}, "", {plot: b"x"})
    assert store.names() == []


def test_plots_lie_beside_the_card(store: ModelStore) -> None:
    store.publish("v0001", a_head(), {}, "", {"confusion.svg": b"<svg/>"})
    assert (store.directory / "v0001" / "confusion.svg").read_bytes() == b"<svg/>"


def test_a_changed_byte_is_found_before_anything_is_parsed(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = publish(store)
    file = store.directory / "v0001" / "head.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    monkeypatch.setattr(models, "head_from_bytes", lambda _: pytest.fail("it was parsed"))
    with pytest.raises(ModelDamaged, match=r"head.safetensors is damaged: its SHA-256.*rollback"):
        store.load_head("v0001", sha256)
    with pytest.raises(ModelDamaged, match="SHA-256"):
        store.load_head("v0001", None)


def test_a_missing_file_is_said_in_words(store: ModelStore) -> None:
    with pytest.raises(ModelDamaged, match="cannot be read: No such file"):
        store.load_head("v0001", "0" * 64)
    publish(store)
    (store.directory / "v0001" / "model_card.json").unlink()
    with pytest.raises(ModelDamaged, match=r"model_card.json is damaged"):
        store.card("v0001")


@pytest.mark.parametrize(
    "text", ["[1]", "{", "\xff", "[" * 99_999, '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}']
)
def test_a_card_that_is_no_card_is_said_in_words(store: ModelStore, text: str) -> None:
    publish(store)
    card = store.directory / "v0001" / "model_card.json"
    card.chmod(0o644)
    card.write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelDamaged, match="is not"):
        store.card("v0001")


def unsound_heads() -> dict[str, Head]:
    head = a_head()
    hole = head.weights.copy()
    hole[0, 0] = np.nan
    return {
        "weights holds numbers": replace(head, weights=hole),
        "scale holds numbers that are not above 0": replace(head, scale=head.scale * 0),
        "bias is float32": replace(head, bias=head.bias[:-1]),
        "mean is float64": replace(head, mean=head.mean.astype(float)),
        "the temperature is nan": replace(head, temperature=float("nan")),
        "the temperature is 0": replace(head, temperature=0.0),
        "its classes are not different names": replace(head, classes=("a", "a", "b")),
        "weights is float32": replace(head, classes=("a", "b")),
    }


@pytest.mark.parametrize("what", unsound_heads())
def test_an_unsound_head_is_neither_published_nor_loaded(store: ModelStore, what: str) -> None:
    head = unsound_heads()[what]
    with pytest.raises(ModelError, match=what):
        store.publish("v0001", head, {}, "")
    assert store.names() == []
    arrays = {name: getattr(head, name) for name in ("mean", "scale", "weights", "bias")}
    metadata = {name: json.dumps(getattr(head, name)) for name in ("classes", "layout")}
    content = save(arrays, metadata | {"temperature": json.dumps(head.temperature)})
    with pytest.raises(ValueError, match=what):
        head_from_bytes(content)


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        ("classes", "[[1], [2], [3]]"),
        ("layout", "[" * 99_999),
        ("temperature", "1" + "0" * 400),
        ("parts", "[1e999]"),
    ],
)
def test_facts_that_are_nonsense_fail_in_words(fact: str, text: str) -> None:
    head = a_head()
    arrays = {name: getattr(head, name) for name in ("mean", "scale", "weights", "bias")}
    facts = {name: json.dumps(getattr(head, name)) for name in ("classes", "layout", "temperature")}
    with pytest.raises(ValueError, match=r"does not hold a head|not different names"):
        head_from_bytes(save(arrays, facts | {fact: text}))


@given(st.binary(max_size=200))
def test_no_bytes_at_all_do_anything_but_fail_in_words(content: bytes) -> None:
    with pytest.raises(ValueError, match="does not hold a head"):
        head_from_bytes(content)


@given(st.data())
def test_a_head_with_a_damaged_byte_fails_in_words_or_is_sound(data: st.DataObject) -> None:
    content = bytearray(head_bytes(a_head(3, ("a", "b"))))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    try:
        head = head_from_bytes(bytes(content))
    except ValueError:
        return
    assert head.weights.shape == (3, len(head.classes))
    assert np.isfinite(head.weights).all() and (head.scale > 0).all()


def test_the_files_are_synced_before_the_name_and_the_name_after(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(models.os, "fsync", lambda fd: (steps.append("fsync"), fsync(fd)))
    monkeypatch.setattr(
        models.os, "rename", lambda *paths: (steps.append("rename"), rename(*paths))
    )
    publish(store)
    assert steps == ["fsync"] * 5 + ["rename", "fsync"]  # the first: of the folder that is new


# --- a tail


def test_a_published_tail_comes_back_with_its_head(store: ModelStore, tail: Tail) -> None:
    sha256 = store.publish("v0001", head_with(tail), {}, "", tail=tail)
    head, loaded = store.load("v0001", sha256)
    assert head.tail_sha256 == tail.sha256  # so that the log's one sum proves both files
    assert loaded == tail
    assert all(np.array_equal(loaded.arrays[n], array) for n, array in tail.arrays.items())
    file = store.directory / "v0001" / "tail.safetensors"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == tail.sha256
    assert file.stat().st_mode & 0o777 == 0o440


def test_a_version_without_a_tail_has_none_and_one_from_before_loads(store: ModelStore) -> None:
    sha256 = publish(store)
    assert store.load("v0001", sha256)[1] is None
    assert "tail_sha256" not in str(head_bytes(a_head())[:400])
    assert head_from_bytes(head_bytes(a_head())).tail_sha256 is None


def test_a_head_and_a_tail_that_do_not_belong_together_are_not_published(
    store: ModelStore, tail: Tail
) -> None:
    other = replace(tail, sha256="0" * 64)
    for head, of_it in (
        (a_head(), tail),
        (head_with(tail), other),
        (head_with(tail), None),
        (head_with(tail, "vgg19-avg345/1"), tail),
        (head_with(tail, "small/1"), tail),
    ):
        with pytest.raises(ModelError, match="cannot be published"):
            store.publish("v0001", head, {}, "", tail=of_it)
    assert store.names() == []
    own_weights = head_with(tail, "vgg16-avg345/1@0123456789ab")
    assert store.publish("v0001", own_weights, {}, "", tail=tail)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "another", "large"])
def test_a_damaged_tail_is_said_in_words_before_it_is_parsed(
    store: ModelStore, tail: Tail, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    sha256 = store.publish("v0001", head_with(tail), {}, "", tail=tail)
    file = store.directory / "v0001" / "tail.safetensors"
    whole = file.read_bytes()
    file.unlink()
    if damage == "flip":
        file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    elif damage == "cut":
        file.write_bytes(whole[:-1])
    elif damage == "another":
        zeros = {name: array * 0 for name, array in tail.arrays.items()}
        file.write_bytes(Tail.of("vgg16", zeros).to_bytes())
    elif damage == "large":
        with file.open("wb") as sparse:
            sparse.truncate(10**10)
    monkeypatch.setattr(Tail, "from_bytes", lambda content: pytest.fail("parsed"))
    with pytest.raises(
        ModelDamaged, match=r"tail\.safetensors is damaged.*trapwatch models rollback"
    ):
        store.load("v0001", sha256)
    assert store.load_head("v0001", sha256).layout == head_with(tail).layout


def test_a_tail_whose_sum_is_right_and_content_is_none_is_damaged(store: ModelStore) -> None:
    content = b"no tail at all"
    sha256 = hashlib.sha256(content).hexdigest()
    head = replace(a_head(), layout=f"vgg16-avg345/1+{sha256[:12]}", tail_sha256=sha256)
    folder = store.directory / "v0001"
    folder.mkdir(parents=True)
    (folder / "tail.safetensors").write_bytes(content)
    with pytest.raises(ModelDamaged, match="does not hold a tail"):
        store.load_tail("v0001", head)


@pytest.mark.parametrize(
    ("layout", "sha256", "words"),
    [
        ("vgg16-avg345/1+0123abcd4567", None, "disagree"),
        ("vgg16-avg345/1", "0123abcd4567" + "0" * 52, "disagree"),
        ("vgg16-avg345/1+0123abcd4567", "f123abcd4567" + "0" * 52, "disagree"),
        ("vgg16-avg345/1+0123abcd4567", "0123abcd4567", "no SHA-256"),
        ("vgg16-avg345/1+0123abcd4567", 7, "no SHA-256"),
    ],
)
def test_a_layout_and_the_sum_of_its_tail_must_agree(layout, sha256, words) -> None:
    head = replace(a_head(), layout=layout, tail_sha256=sha256)
    with pytest.raises(ValueError, match=words):
        head_bytes(head)
    facts = {name: json.dumps(getattr(head, name)) for name in ("classes", "layout", "temperature")}
    facts |= {"tail_sha256": json.dumps(sha256)} if sha256 is not None else {}
    arrays = {name: getattr(head, name) for name in ("mean", "scale", "weights", "bias")}
    with pytest.raises(ValueError, match=words):
        head_from_bytes(save(arrays, facts))
