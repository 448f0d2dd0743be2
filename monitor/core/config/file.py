"""The config file and the environment as one tree of plain values, not yet validated.

`TRAPWATCH_DATABASE__URL=…` stands for `database.url`; lists and numbers are written as in YAML. A
credential that systemd loads under such a name (LoadCredential=) counts like it, and is in no
environment that another process could read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from monitor.core.domain import TrapwatchError

ENV_PREFIX = "TRAPWATCH_"
CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Where systemd puts what LoadCredential= and SetCredentialEncrypted= name."""


MOST_BYTES = 100_000
MOST_VALUES = 20_000
"""Far above any config: a file of some hundred bytes can stand for billions of values."""


class ConfigError(TrapwatchError):
    """The configuration cannot be used; the message lists every fault with its place."""


def read_yaml(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The keys and values of a file, and the faults that YAML itself would pass over.

    Raises:
        ConfigError: it cannot be read, or is not a YAML mapping.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"{path}: is larger than {MOST_BYTES:,} bytes; that is no config")
        tree, twice = plain_values(content.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from None
    if tree is None:
        return {}, []
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{path}: must be keys and values, like 'station:'")
    return tree, twice


def plain_values(text: str) -> tuple[Any, list[str]]:
    """What YAML text stands for, and the faults that YAML itself would pass over.

    Raises:
        yaml.YAMLError: it is not YAML.
        ValueError: in words: a value is not of the kind that its tag says, or it stands for more
            values than a config can have.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, []
        if _weight(node, {}) > MOST_VALUES:
            raise ValueError("it stands for too many values, or for one that holds itself")
        return loader.construct_document(node), _named_twice(node)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # what PyYAML raises for `!!int ''`, `!!bool x` and times before the year 1
        raise ValueError(f"a value is not of its kind ({error})") from None


def with_credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, and what systemd keeps for this service under names of the same kind.

    Raises:
        ConfigError: one of them cannot be read.
    """
    found = dict(environ)
    folder = environ.get(CREDENTIALS)
    for path in sorted(Path(folder).glob(f"{ENV_PREFIX}*__*")) if folder else ():
        try:
            found[path.name] = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"the credential {path.name} cannot be read as text") from None
    return found


def apply_environment(
    tree: dict[str, Any], environ: Mapping[str, str], is_text: Callable[[tuple[str, ...]], bool]
) -> list[str]:
    """Put the settings of `environ` into `tree`; returns the faults.

    Args:
        is_text: whether the key at a place holds text, which is then taken as it stands.
    """
    faults = []
    for name, text in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX) or "__" not in name:
            continue
        *parents, leaf = keys = name[len(ENV_PREFIX) :].lower().split("__")
        node: Any = tree
        for parent in parents:
            if not isinstance(node, dict):
                break
            if node.get(parent) is None:
                node[parent] = {}
            node = node[parent]
        if not isinstance(node, dict):
            faults.append(f"{name}: '{'.'.join(parents)}' holds no keys")
        elif any("\ud800" <= letter <= "\udfff" for letter in text):
            faults.append(f"{name}: is not UTF-8 text")
        elif is_text(tuple(keys)):
            node[leaf] = text
        else:
            node[leaf] = _value(text)
    return faults


def _value(text: str) -> Any:
    try:
        return plain_values(text)[0]
    except (yaml.YAMLError, ValueError):
        return text


def _weight(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    """How many values a node stands for, aliases followed; infinite if it holds itself."""
    if node not in known:
        known[node] = math.inf
        scalar = isinstance(node, yaml.ScalarNode)
        if scalar:
            node.value.encode()  # ValueError on half a letter, like "\ud800": no text to be printed
        parts = () if scalar else node.value
        nodes = [n for part in parts for n in (part if isinstance(part, tuple) else (part,))]
        known[node] = 1 + sum(_weight(part, known) for part in nodes)
    return known[node]


def _named_twice(node: Any, place: str = "") -> list[str]:
    """Keys that stand twice in one mapping: YAML silently drops the first."""
    faults: list[str] = []
    if not isinstance(node, yaml.MappingNode):
        return faults
    seen = set()
    for key, value in node.value:
        here = f"{place}.{key.value}" if place else str(key.value)
        if here in seen:
            faults.append(f"{here}: stands twice, again in line {key.start_mark.line + 1}")
        seen.add(here)
        faults += _named_twice(value, here)
    return faults
