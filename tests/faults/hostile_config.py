"""Configs that are damaged, wrong or meant to harm, and the environment beside them."""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from monitor.core.config import ConfigError, Settings, load_settings
from monitor.core.domain import TrapwatchError
from monitor.health.alert_channels import channels_of
from monitor.model.options import backbone_options, decode_rules
from monitor.pipeline.deployments import compile_pattern

from .drill import Drill
from .mutate import mutate

PROTECTIONS = ("yaml",)
"""Reading YAML as plain values only."""
WHOLE = Path(__file__).parents[2] / "config.yaml"
LONGEST_MESSAGE = 200_000
SCALAR = re.compile(rb"^( *[a-z_]+: )(\S.*)$", re.MULTILINE)


def _bomb(kind: str, levels: int = 30) -> bytes:
    """Few bytes that stand for billions of values."""
    start = {"list": "[x, x]", "map": "{p: x, q: x}", "merge": "{p: x}", "key": "[x, x]"}[kind]
    middle = {
        "list": "[*{0}, *{0}]",
        "map": "{{p: *{0}, q: *{0}}}",
        "merge": "{{<<: [*{0}, *{0}]}}",
    }
    rows = [f"a0: &a0 {start}"]
    rows += [
        f"a{n}: &a{n} " + middle.get(kind, "[*{0}, *{0}]").format(f"a{n - 1}")
        for n in range(1, levels)
    ]
    return "\n".join(rows).encode() + b"\n"


def _values(canary: Path) -> tuple[bytes, ...]:
    """What may stand where a value is expected."""
    runs = f"!!python/object/apply:os.mkdir ['{canary}']".encode()
    return (
        runs, b"!!python/name:os.system", b"!!python/object/new:os.mkdir", b"!!int ''", b"!!int x",
        b"!!float x", b"!!float ''", b"!!bool maybe", b"!!timestamp x", b"!!binary '*'",
        b"!!null x",
        b"!!set {a, b}", b"!!omap [a: 1]", b"!!pairs [a: 1, a: 2]", b"!!str [a]", b"!!map x",
        b"!x y",
        b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59", b"2024-02-30", b"190:20:30:99",
        b"9" * 5000, b"0x" + b"f" * 9000, b"1e999", b"-1", b".nan", b".inf", b"-.inf", b"1_000",
        b"0o7",
        b"~", b"", b"[]", b"{}", b"[[[[]]]]", b"{a: {b: {c: d}}}", b"yes", b"'\x00'", b'"\\ud800"',
        b'"\\0"', b'"\\x1b[31m"', b"\xff", b"'" + b"a" * 100_000 + b"'", b"'../../../etc/passwd'",
        b"[" * 2000, b"[" * 300 + b"]" * 300, b"{" * 5000, b"&x [*x]", b"*nobody", b"&a {b: *a}",
        b"'*/0 * * * *'", b"'0-99999999999 * * * *'", b"'* * * * 0-999999999999'", b"'a b c d e'",
        b"'{deployment}/{deployment}'", b"'{deployment}(((('",
        b"'{deployment}/" + b"**/" * 30 + b"x'",
        b"'sqlite:///'", b"'sqlite:////'", b"'Europe'", b"'/etc/localtime'", b"'..'",
        b"|\n  a\n   b",
        b">-\n  a", b"? a\n: b", b"- a", b"%TAG", b"@", b"`", b"\t- x", b"a: b: c", b"#", b"'",
        b'"',
        b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"[/, /tmp]", b"['', '.', '..', ~]", b"{? [a] : b}",
    )  # fmt: skip


class Subject:
    """Loads one config after the other."""

    def __init__(self, folder: Path, broken: str | None) -> None:
        self._here = folder / "current"
        self._canary = folder / "code-was-run"
        self._values = _values(self._canary)
        if broken == "yaml":
            _trust_yaml()

    def attempt(self, rng: random.Random) -> tuple[str, list[str]]:
        """Load one."""
        path = self._here / "config.yaml"
        path.write_bytes(config(rng, self._values))
        environ = environment(rng, self._values)
        (self._here / "environment").write_text(repr(environ), encoding="utf-8")
        try:
            settings = load_settings(path, environ, thorough=rng.random() < 0.5)
        except ConfigError as error:
            outcome, faults = _told(error)
        else:
            outcome, faults = "settings", _unusable(settings)
            faults += _channels(path, rng, self._values)
        if self._canary.exists():
            faults.append("wrong: the config ran code")
            self._canary.rmdir()
        return outcome, faults

    def close(self) -> list[str]:
        """Nothing is open."""
        return []


def command(folder: Path, rng: random.Random) -> subprocess.CompletedProcess[str]:
    """`trapwatch status` with such a config."""
    drill = Drill(folder / "current")
    drill.config.write_bytes(config(rng, _values(folder / "code-was-run")))
    return drill.trapwatch("species", "list")


def config(rng: random.Random, values: tuple[bytes, ...]) -> bytes:
    """The config that comes with the program, damaged."""
    text = WHOLE.read_bytes() if rng.random() < 0.5 else b"station: {name: x}\nweb:\n  port: 1\n"
    sort = rng.randrange(10)
    if sort < 4:
        for _ in range(rng.choice((1, 1, 2, 5))):
            text = _with_value(text, rng, values)
    elif sort < 6:
        text = mutate(text, rng)
    elif sort == 6:
        rows = text.splitlines(keepends=True)
        row = rng.randrange(len(rows))
        rows[row:row] = [rng.choice((b"\tx: 1\n", b"web: {}\n", rows[-1], b"a\n", b"---\n",
            b"...\n", b"1: 2\n",
            b"[a]: b\n", b"!!python/none : 1\n", b"<<: {web: 1}\n", b"<<: x\n", b"source: /\n",
            b"name: x\n", b"? {a: b}\n: c\n"))]  # fmt: skip
        text = b"".join(rows)
    elif sort == 7:
        bomb = _bomb(rng.choice(("list", "map", "merge", "key")), rng.choice((3, 9, 30, 60)))
        text = bomb + rng.choice(
            (b"", b"web: *a2\n", b"classifier: {threads: *a2}\n", b"*a2 : x\n")
        )
        if b"a2" in text and rng.random() < 0.5:
            text = text.replace(b"*a2\n", b"*a8\n").replace(b"*a2}", b"*a8}")
    elif sort == 8:
        text = rng.choice((b"", b"\0", b"x", b"- a\n- b\n", b"!!python/object:os.x {}",
            b"%YAML 9.9\n---\n",
            b"a: 1\n---\nb: 2\n", text.decode().encode("utf-16"), text.decode().encode("utf-32"),
            b"\xef\xbb\xbf" + text, text.replace(b"\n", b"\r"), text.replace(b"  ", b"\t"),
            b"web: {" + b"a: {" * rng.choice((50, 400, 5000)), b"x: " + b"[" * 9000, b"? " * 3000,
            b"- " * 3000, b"&a " * 50, b"#" * 3_000_000, b"a: b\n" * 300_000,
            text * 40))  # fmt: skip
    else:
        text = text + rng.choice(values)
    return text


def _with_value(text: bytes, rng: random.Random, values: tuple[bytes, ...]) -> bytes:
    places = list(SCALAR.finditer(text)) or [re.match(b"(.*)(.*)", text)]
    place = rng.choice(places)
    assert place is not None
    return text[: place.start(2)] + rng.choice(values) + text[place.end(2) :]


def environment(rng: random.Random, values: tuple[bytes, ...]) -> dict[str, str]:
    """None, or settings of which some are nonsense."""
    if rng.random() < 0.6:
        return {}
    names = ("WEB__PORT", "STATION__NAME", "WATCH__FOLDERS", "A__B", "WEB__PORT__X", "__",
        "DATABASE__URL",
        "ALERTS__URLS", "CLASSIFIER", "WEB__", "TRAINING__GATE__METRIC", "STATION__TIMEZONE",
        "SOURCE__X",
        "TRAINING__SCHEDULE", "DEPLOYMENTS__PATH_PATTERN", "ALERTS__URLS__X")  # fmt: skip
    value = rng.choice((*values, _bomb("list"), _bomb("merge"), b"{" * 900, b"[a, *a]"))
    text = os.fsdecode(value).replace("\0", "")
    return {f"TRAPWATCH_{rng.choice(names)}": text[:100_000]}


def _told(error: ConfigError) -> tuple[str, list[str]]:
    """A message is words that can be printed, and not without end."""
    text, faults = str(error), []
    if len(text) > LONGEST_MESSAGE:
        faults.append(f"wrong: a message of {len(text):,} letters")
    if not text.strip():
        faults.append("wrong: no message")
    text.encode("utf-8", "surrogateescape" if _bytes_only(text) else "backslashreplace")
    for words in ("is not YAML", "is not UTF-8", "must be keys", "unknown key", "stands twice"):
        if words in text:
            return f"told: {words}", faults
    return "told: " + ("too much" if "larger" in text or "stand for" in text else "values"), faults


def _bytes_only(text: str) -> bool:
    return not any("\ud800" <= c < "\udc80" for c in text)


def _unusable(settings: Settings) -> list[str]:
    """What the program does first with settings, and must not stumble over."""
    paths: list[Any] = [*settings.watch.folders, settings.data_directory, settings.models.directory]
    paths += [settings.deployments.file, settings.web.certificate, settings.web.key]
    for path in paths:
        if path is not None:
            os.path.lexists(os.fsencode(path))
    compile_pattern(settings.deployments.path_pattern).fullmatch("a/b/c.jpg")
    settings.station.zone.key.encode()
    settings.model_dump_json()
    backbone_options(settings)
    decode_rules(settings)
    settings.station.name.encode()
    return []


def _channels(path: Path, rng: random.Random, values: tuple[bytes, ...]) -> list[str]:
    """Addresses of alerts in a file of their own."""
    file = path.with_name("channels.yaml")
    file.write_bytes(
        rng.choice((b"mail: ", b"", b"a: 1\nb: ")) + rng.choice((*values, _bomb("map")))
    )
    path.write_text(f"alerts: {{urls_file: {file.name}}}\n", encoding="utf-8")
    try:
        channels_of(load_settings(path, {}, thorough=False), {})
    except TrapwatchError as error:
        return _told(ConfigError(str(error)))[1]
    return []


def _trust_yaml() -> None:
    yaml.SafeLoader = yaml.UnsafeLoader  # type: ignore[assignment, misc]
    yaml.safe_load = yaml.unsafe_load
