"""What documents look like, as lines that a diff reads well: the keys and kinds of values of JSON
documents, and the fields of JSON schemas."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?")
SHA256 = re.compile(r"[0-9a-f]{64}")
TEXTS = ((UTC_TIME, "UTC time"), (LOCAL_TIME, "local time"), (SHA256, "SHA-256"))

WORDING = frozenset({"title", "description", "summary", "examples"})
STRUCTURE = frozenset(
    {"$ref", "$defs", "type", "enum", "const", "default", "required", "anyOf", "oneOf"}
    | {"properties", "additionalProperties", "patternProperties", "items", "prefixItems"}
)


class Shape:
    """The keys and kinds of values of some documents of one sort.

    A key that only some of them have ends with `?`. Dictionaries whose keys are data (species,
    languages) are told as one key in braces.

    Args:
        data_keys: name of such a dictionary, as `by_species` -> what its keys are.
    """

    def __init__(self, data_keys: Mapping[str, str]) -> None:
        self._data_keys = data_keys
        self._kinds: dict[str, set[str]] = defaultdict(set)
        self._objects: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._above: dict[str, str] = {}

    def add(self, document: Any) -> None:
        """Look at one more document."""
        self._look(document, "", "")

    def lines(self) -> list[str]:
        """`.path.of.the.key: kinds of its values`, sorted."""
        return sorted(f"{self._name(place)}: {self._words(place)}" for place in self._kinds)

    def _look(self, value: Any, place: str, name: str) -> None:
        self._kinds[place].add(kind_of(value))
        if isinstance(value, dict):
            self._objects[place] += 1
            data = self._data_keys.get(name)
            below = {f"{place}.{{{data}}}" if data else f"{place}.{key}" for key in value}
            self._seen.update(below)
            self._above.update(dict.fromkeys(below, place))
            for key, inner in value.items():
                self._look(inner, f"{place}.{{{data}}}" if data else f"{place}.{key}", key)
        elif isinstance(value, list):
            for inner in value:
                self._look(inner, f"{place}[]", name)

    def _name(self, place: str) -> str:
        above = self._above.get(place)
        is_data = place.endswith("}")
        missing = above is not None and self._seen[place] < self._objects[above]
        return f"{place or 'document'}{'?' if missing and not is_data else ''}"

    def _words(self, place: str) -> str:
        return " or ".join(sorted(self._kinds[place], key=lambda kind: (kind == "null", kind)))


def kind_of(value: Any) -> str:
    """What a JSON value is, in a word or two."""
    kinds = {bool: "yes or no", int: "integer", float: "number", dict: "object", list: "list"}
    if value is None:
        return "null"
    if not isinstance(value, str):
        return kinds[type(value)]
    return next((word for pattern, word in TEXTS if pattern.fullmatch(value)), "text")


def fields_of(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, str]:
    """Every field of a JSON schema: its place -> what it may be. Names of classes are left out.

    Args:
        root: the document that its references point into.
    """
    return dict(_fields(schema, root, "", ()))


def _fields(
    schema: Mapping[str, Any], root: Mapping[str, Any], place: str, passed: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    schema, passed = _followed(schema, root, passed)
    ways = [_followed(way, root, passed) for way in schema.get("anyOf", schema.get("oneOf", ()))]
    words = [_words(way) for way, _ in ways] or [_words(schema)]
    yield place, " or ".join(words) + (_default(schema) if "default" in schema else "")
    for way, seen in ways or [(schema, passed)]:
        yield from _below(way, root, place, seen)


def _below(
    schema: Mapping[str, Any], root: Mapping[str, Any], place: str, passed: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        (_, words), *deeper = _fields(inner, root, f"{place}.{name}", passed)
        yield f"{place}.{name}{'' if name in required else '?'}", words
        yield from deeper
    for key, inner in schema.get("patternProperties", {}).items():
        yield from _fields(inner, root, f"{place}.{{{key}}}", passed)
    if isinstance(others := schema.get("additionalProperties"), dict):
        yield from _fields(others, root, f"{place}.{{any}}", passed)
    if isinstance(items := schema.get("items"), dict):
        yield from _fields(items, root, f"{place}[]", passed)
    for number, inner in enumerate(schema.get("prefixItems", ())):
        yield from _fields(inner, root, f"{place}[{number}]", passed)


def _followed(
    schema: Mapping[str, Any], root: Mapping[str, Any], passed: tuple[str, ...]
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """A schema with what its reference names in it; one within itself is not gone into again."""
    while (reference := schema.get("$ref")) is not None:
        if reference in passed:
            return {"type": "the same again"}, passed
        found: Any = root
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        passed = (*passed, reference)
        schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema, passed


def _words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        named = map(_json, schema.get("enum", [schema.get("const")]))
        kind = f"one of {', '.join(sorted(named))}"
    else:
        kind = str(schema.get("type", "anything"))
    others = schema.get("additionalProperties")
    if isinstance(others, bool):
        kind += ", any other keys" if others else ", no other keys"
    limits = sorted(set(schema) - STRUCTURE - WORDING)
    return ", ".join([kind, *(f"{limit} {_json(_whole(schema[limit]))}" for limit in limits)])


def _default(schema: Mapping[str, Any]) -> str:
    default = schema["default"]
    return "" if isinstance(default, dict) and default else f"; default {_json(default)}"


def _whole(value: Any) -> Any:
    """1 for 1.0: some ways to declare a limit make a float of it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def under(title: str, lines: Iterable[str]) -> list[str]:
    """Each line with what it belongs to before it."""
    return [f"{title} {line}" for line in lines]
