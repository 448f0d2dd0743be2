"""config.yaml: every fault at once, each with its place; the environment; paths."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.core.config import ConfigError, Settings, find_config, load_settings, sqlite_path

TOP = Path(__file__).parent.parent / "config.yaml"


@pytest.fixture
def read(tmp_path):
    """Settings of a text, with an environment."""

    def read(text: str | bytes, **environ: str) -> Settings:
        path = tmp_path / "config.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_settings(path, environ)

    return read


@pytest.fixture
def faults(read):
    """The fault lines of a text."""

    def faults(text: str | bytes, **environ: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text, **environ)
        return [line.strip() for line in str(caught.value).splitlines()[1:]]

    return faults


def test_every_fault_is_reported_at_once_with_its_place(faults):
    found = faults(
        "station: {timezone: Mars/Olympus}\n"
        "watch: {folders: [a, 3], settle_seconds: -1, folder: x}\n"
        "database: {url: 'postgres://h/db'}\n"
        "deployments: {path_pattern: '*'}\n"
        "training: {schedule: '61 * * * *', gate: {confidence: 2}}\n"
        "clasifier: {}\n"
    )
    places = [line.split(":")[0] for line in found]
    assert places == [
        "station.timezone",
        "database.url",
        "watch.folders[1]",
        "watch.settle_seconds",
        "watch.folder",
        "deployments.path_pattern",
        "training.schedule",
        "training.gate.confidence",
        "clasifier",
    ]


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("watch: {folder: [x]}", "watch.folder: unknown key; the nearest known one is 'folders'"),
        ("clasifier: {}", "clasifier: unknown key; the nearest known one is 'classifier'"),
        ("training: {gate: {metrik: x}}", "training.gate.metrik: unknown key; the nearest"),
        ("source: x", "source: unknown key"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(faults, text, nearest):
    assert faults(text)[0].startswith(nearest)


def test_the_documented_default_is_the_default_and_says_every_key():
    tree = yaml.safe_load(TOP.read_text())
    assert load_settings(TOP, {}) == load_settings(TOP, {}).model_copy()
    defaults = Settings.model_validate({})
    assert Settings.model_validate(tree) == defaults
    documented = {
        section: set(keys) if isinstance(keys, dict) else keys for section, keys in tree.items()
    }
    known = {
        name: set(type(getattr(defaults, name)).model_fields)
        for name in Settings.model_fields
        if name != "source"
    }
    assert documented == known
    lines = [line for line in TOP.read_text().splitlines() if line.startswith("  ")]
    assert sum("#" in line for line in lines) > 0.7 * len(lines)


def test_the_environment_goes_before_the_file(read):
    settings = read(
        "station: {name: a}\nwatch: {settle_seconds: 1}\n",
        TRAPWATCH_STATION__NAME="007",
        TRAPWATCH_WATCH__SETTLE_SECONDS="2.5",
        TRAPWATCH_WATCH__FOLDERS="[/x, /y]",
        TRAPWATCH_TRAINING__GATE__METRIC="accuracy",
        TRAPWATCH_TRAINING__ENABLED="no",
        TRAPWATCH_OTHER="is not a setting",
    )
    assert settings.station.name == "007"
    assert settings.watch.settle_seconds == 2.5
    assert settings.watch.folders == (Path("/x"), Path("/y"))
    assert settings.training.gate.metric == "accuracy"
    assert not settings.training.enabled


def test_faults_of_the_environment_are_among_the_others(faults):
    found = faults(
        "watch: {polling: 7}",
        TRAPWATCH_STATION__NAME__FIRST="x",
        TRAPWATCH_STATION__NAME="y",
        TRAPWATCH_DATABASE__PATH="x",
    )
    assert any(line.startswith("TRAPWATCH_STATION__NAME__FIRST: ") for line in found)
    assert any(line.startswith("watch.polling") for line in found)
    assert any(line.startswith("database.path: unknown key; the nearest") for line in found)


def test_relative_paths_are_seen_from_the_file(read, tmp_path):
    settings = read("watch: {folders: [cards/../a, /b]}\ndeployments: {file: d.csv}\n")
    assert settings.watch.folders == (tmp_path / "a", Path("/b"))
    assert settings.deployments.file == tmp_path / "d.csv"
    assert sqlite_path(settings.database.url) == tmp_path / "data" / "trapwatch.db"
    assert settings.data_directory == tmp_path / "data"
    assert settings.models.directory == tmp_path / "data" / "models"
    assert read("classifier: {weights: own.h5}").classifier.weights == str(tmp_path / "own.h5")


def test_folders_within_folders_are_a_fault_however_they_are_written(faults, tmp_path):
    for folders in ("[a, a/b]", "[a, ./a]", f"[a, {tmp_path}/a]", "[a/b/.., a]"):
        (fault,) = faults(f"watch: {{folders: {folders}}}")
        assert fault.startswith("watch.folders: ")
        assert "overlap" in fault


def test_an_empty_file_or_section_means_the_defaults(read):
    assert read("").station.name == "station"
    assert read("watch:\ntraining:\n  gate:\n").training.gate.confidence == 0.95


def test_a_key_that_stands_twice_is_a_fault(faults):
    assert faults("watch: {polling: true}\nstation: {}\nwatch: {}\n") == [
        "watch: stands twice, again in line 3"
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not YAML"),
        ("- a\n- b\n", "must be keys and values"),
        ("1: 2", "must be keys and values"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        ("a: !!python/object:os.system {}", "is not YAML"),
        ("a: 0000-99-99", "is not YAML"),
    ],
)
def test_what_is_no_config_is_refused_in_words(read, text, words):
    with pytest.raises(ConfigError, match=words):
        read(text)


@pytest.mark.parametrize("value", [".inf", ".nan", "1e300", "-1"])
def test_numbers_that_no_clock_can_wait_for_are_faults(faults, value):
    for key in ("watch: {reconcile_seconds", "deployments: {event_gap_minutes"):
        assert len(faults(f"{key}: {value}}}")) == 1


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "too many values"),
        (MERGES, "too many values"),
        ("a: &a {b: *a}\n", "one that holds itself"),
        ("a: " + "[" * 3000, "nested too deep"),
        ("web: {port: !!int ''}\n", "not of its kind"),
        ("web: {port: !!bool maybe}\n", "not of its kind"),
        ("station: {name: !!timestamp x}\n", "not of its kind"),
        ("station: {name: !!python/object/apply:os.getcwd []}\n", "could not determine"),
        ('station: {name: "\\ud800"}\n', "is not YAML"),
        ("#" * 200_000, "larger than 100,000 bytes"),
    ],
)
def test_a_file_that_means_harm_is_refused_in_words_and_at_once(read, text, words):
    with pytest.raises(ConfigError, match=words):
        read(text)


def test_a_value_in_the_environment_that_means_harm_is_a_fault(faults):
    assert faults("", TRAPWATCH_STATION__NAME="\udcff") == [
        "TRAPWATCH_STATION__NAME: is not UTF-8 text"
    ]
    for text in (BOMB, "[" * 3000, "!!int ''"):
        (fault,) = faults("", TRAPWATCH_WEB__PORT=text)
        assert fault.startswith("web.port: ")
        assert len(fault) < 400


def test_a_number_of_thousands_of_digits_is_a_fault(faults):
    (fault,) = faults("web: {port: 0x" + "f" * 9000 + "}\n")
    assert "a number without end" in fault


def test_a_path_with_a_zero_byte_is_a_fault(faults):
    assert faults('watch: {folders: ["a\\0b"]}')[0].startswith("watch.folders[0]: is no path")


def test_commands_that_never_train_do_not_look_into_the_schedule(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("training: {schedule: nonsense}")
    assert load_settings(path, {}, thorough=False).training.schedule == "nonsense"
    with pytest.raises(ConfigError, match="five fields"):
        load_settings(path, {})


def test_a_config_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("monitor.core.config.DEFAULT_PATHS", (Path("config.yaml"),))
    with pytest.raises(ConfigError, match="name one with --config"):
        find_config(None)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "none.yaml", {})
    (tmp_path / "config.yaml").touch()
    assert find_config(None) == Path("config.yaml")


@pytest.mark.parametrize("url", ["sqlite://x", "sqlite:///", "mysql://x", "sqlite:///a/", ""])
def test_only_an_sqlite_file_is_taken_as_a_log(url):
    with pytest.raises(ConfigError, match="write sqlite:///PATH"):
        sqlite_path(url)


def test_settings_are_frozen(read):
    with pytest.raises(ValueError, match="frozen"):
        read("").station.name = "x"


trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
sections = st.sampled_from([*Settings.model_fields, "other"])
keys = st.sampled_from(["folders", "url", "name", "gate", "schedule", "file", "timezone", "x"])


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=st.dictionaries(sections, st.one_of(trees, st.dictionaries(keys, trees)), max_size=3))
def test_whatever_stands_in_it_ends_as_settings_or_as_faults(read, tree):
    try:
        read(yaml.safe_dump(tree))
    except ConfigError as error:
        assert str(error)
