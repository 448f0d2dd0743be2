"""The surface of trapwatch, a subject at a time: each as lines that are the same on every machine.

What is wording (help, descriptions, messages) is left out, and so is what only one machine has
(paths, versions, times). See test_golden.py.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import EnumMeta
from pathlib import Path
from typing import Any, get_args

import fastapi.routing
import yaml
from outside import PASSWORD, ROLES, TOP, Outside, Said, Web, commands, config_schema, trapwatch
from prometheus_client.parser import text_string_to_metric_families
from shapes import Shape, fields_of, under

Lines = list[str]
DATA_KEYS = {
    "by_species": "species",
    "thresholds": "species",
    "other_types": "suffix",
    "names": "language",
    "checks": "check",
    "labels": "species",
    "label_events": "species",
    "caught": "species",
    "left_out": "reason",
}
"""Dictionaries of JSON documents whose keys are data: name -> what a key is."""
KINDS = {str: "text", int: "integer", float: "number", bool: "flag", Path: "path"}
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
STATIC = re.compile(r"/static/[0-9a-f]+/")
PLACEHOLDER = re.compile(r"{(\w+)}")
NOBODY = "nobody"
CHECKS = ("CHECK", "CONSTRAINT", "FOREIGN", "PRIMARY", "UNIQUE")


def commands_and_options() -> Lines:
    """Every command, its arguments in their order, its options with their defaults."""
    lines = []
    for words, command in sorted(commands().items()):
        lines.append(f"{words}: {_sort_of(command)}")
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        lines += [f"{words}: argument {n} {_parameter(p)}" for n, p in enumerate(arguments, 1)]
        options = [p for p in command.params if p.param_type_name == "option"]
        lines += sorted(f"{words}: option {_parameter(p)}" for p in options)
    return lines


def commands_that_print_json() -> set[str]:
    """Those that have the option --json."""
    return {
        words.removeprefix("trapwatch ")
        for words, command in commands().items()
        if any("--json" in parameter.opts for parameter in command.params)
    }


def config_keys() -> Lines:
    """Every key: what it may be, its default, what the shipped file says, its variable."""
    schema = config_schema()
    shipped = dict(_leaves(yaml.safe_load((TOP / "config.yaml").read_text(encoding="utf-8"))))
    lines = []
    for place, words in fields_of(schema, schema).items():
        key = place.replace("?", "").removeprefix(".")
        said = [f"shipped {json.dumps(shipped.pop(key))}", variable(key)] if key in shipped else []
        lines.append(f"{key or 'the file'}: {'; '.join([words, *said])}")
    return sorted(lines) + [f"shipped, but no key: {key}" for key in shipped]


def variable(key: str) -> str:
    """The variable of the environment that stands for a key of the config."""
    return "TRAPWATCH_" + key.upper().replace(".", "__")


def structured_keys() -> Lines:
    """Keys whose value is neither text nor a mapping: a mapping in its place is a fault."""
    schema = config_schema()
    fields = fields_of(schema, schema)
    keys = (place.replace("?", "").removeprefix(".") for place in fields)
    texts = ("string", "one of", "object")
    return [
        key
        for key, words in zip(keys, fields.values(), strict=True)
        if key and "[]" not in key and "{" not in key and not words.startswith(texts)
    ]


def json_documents(documents: dict[str, list[Any]]) -> Lines:
    """The keys of what is printed with --json, and the kinds of their values."""
    lines: Lines = []
    for title in sorted(documents):
        shape = Shape(DATA_KEYS)
        for document in documents[title]:
            shape.add(document)
        lines += under(title, shape.lines())
    return lines


def csv_columns(station: Outside) -> Lines:
    """The first line of what is written with --csv."""
    return [
        f"{command} --csv: {station.do(command, '--csv', '-').splitlines()[0]}"
        for command in ("events", "sightings")
    ]


def openapi(document: dict[str, Any]) -> Lines:
    """Every operation: parameters, bodies, answers. Names of schemas are left out: they are those
    of classes."""
    problem, _ = Counter(
        _content(response, document)
        for operations in document["paths"].values()
        for operation in operations.values()
        for code, response in operation["responses"].items()
        if code >= "400"
    ).most_common(1)[0]
    lines = under("problem", problem)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines += under(f"{method.upper()} {path}", _operation(operation, document, problem))
    return sorted(lines)


def schema(station: Outside) -> Lines:
    """Tables, columns, indexes, triggers and views of the log."""
    lines: Lines = []
    made = station.sql("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2")
    for kind, name, table, sql in made:
        if kind in ("table", "view"):
            lines += under(f"{kind} {name}", map(_column, station.sql(_COLUMNS, name)))
        if kind == "table" and sql:
            lines += under(f"table {name}", sorted(_constraints(sql)))
        elif sql:
            lines.append(f"{kind} {name} on {table}: {' '.join(sql.split())}")
    return lines


def files(station: Outside) -> Lines:
    """What lies beside the log when no service runs, and the lines of the journal of labels."""
    found = {_plain(path.relative_to(station.data)) for path in station.data.rglob("*")} - {""}
    journal = Shape(DATA_KEYS)
    for line in (station.data / "labels.jsonl").read_text(encoding="utf-8").splitlines():
        journal.add(json.loads(line))
    return sorted(f"data/{name}" for name in found) + under("labels.jsonl", journal.lines())


def pages(web: Web) -> Lines:
    """Every address that is in no OpenAPI document: what each role is answered, which scripts and
    styles the page asks for."""
    lines: Lines = []
    assets: set[str] = set()
    routes = _hidden_routes(web)
    for role in (NOBODY, *ROLES):
        web.client.cookies.clear()
        if role != NOBODY:
            web.log_in(role)
        for path in (path for path, methods in routes if "GET" in methods):
            answer = web.client.get(_filled(path))
            lines.append(f"GET {path} {role}: {_head(answer)}")
            if role == "admin":
                asked = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text))
                lines += [f"GET {path} asks for {STATIC.sub('/static/…/', a)}" for a in asked]
                assets |= asked
    lines += [f"{' '.join(sorted(methods))} {path}: route" for path, methods in routes]
    for asset in assets:
        code = web.client.get(asset).status_code
        lines.append(f"GET {STATIC.sub('/static/…/', asset)}: {code}")
    return sorted([*lines, *_logging_in(web)])


def access(web: Web) -> Lines:
    """Who may use each operation of the API: asked without a body, and for things that are none."""
    document = web.api("GET", "/api/v1/openapi.json", "admin").json()
    lines = []
    for path, operations in document["paths"].items():
        for method in operations:
            for role in (None, *ROLES[:-1]):
                code = web.api(method.upper(), PLACEHOLDER.sub("x", path), role).status_code
                may = f"no, {code}" if code in (401, 403, 500) else "yes"
                lines.append(f"{method.upper()} {path} {role or NOBODY}: {may}")
    return sorted(lines)


def metrics(text: str) -> Lines:
    """Names, kinds and labels of what Prometheus is told."""
    lines = set()
    for family in text_string_to_metric_families(text):
        names = {(sample.name, tuple(sorted(sample.labels))) for sample in family.samples}
        for name, labels in names or {(family.name, ())}:
            told = f"{{{', '.join(labels)}}}" if labels else ""
            lines.add(f"{name}{told} {family.type if family.samples else 'without a sample'}")
    return sorted(lines)


def service_files(prefix: Path) -> Lines:
    """What `install-service` would write, without remarks: whole, but of the config what differs
    from the shipped one."""
    said = trapwatch("install-service", "--prefix", prefix, "--dry-run", "--json")
    plan = json.loads(said.out)
    shipped = dict(_leaves(yaml.safe_load((TOP / "config.yaml").read_text(encoding="utf-8"))))
    lines: Lines = []
    for file in plan["files"]:
        name = file["path"].replace(str(prefix), "PREFIX")
        lines.append(f"{name}: {file['action']}, {file['mode']}")
        if name.endswith(".yaml"):
            theirs = dict(_leaves(yaml.safe_load(file["content"])))
            lines += [f"{k}: {json.dumps(v)}" for k, v in theirs.items() if v != shipped.get(k)]
            continue
        content = re.sub(r"(?m)^ExecStart=.+ run ", "ExecStart=PROGRAM run ", file["content"])
        kept = (line for line in content.splitlines() if line and not line.startswith("#"))
        lines += [line.replace(str(prefix), "PREFIX") for line in kept]
    shown = trapwatch("install-service", "--prefix", prefix, "--dry-run")
    table = [line.replace(str(prefix), "PREFIX") for line in shown.out.splitlines()]
    return [*lines, "", *(line.replace("\t", " | ") for line in table)]


def exit_of(said: Said, *named: str) -> str:
    """How a command ended: its code, where it spoke, and what of this it named."""
    complaint = COLOUR.sub("", said.err)
    by_us = "stderr (trapwatch: …)" if complaint.startswith("trapwatch: ") else "stderr"
    spoke = [name for name, text in (("stdout", said.out), (by_us, complaint)) if text.strip()]
    names = [f"names {word}" for word in named if word in complaint]
    return ", ".join([f"exit {said.code}", " and ".join(spoke) or "silent", *names])


def _sort_of(command: Any) -> str:
    if not hasattr(command, "commands"):
        sort = "command"
    elif command.no_args_is_help:
        sort = "group, which alone shows its help"
    else:
        sort = "command and group" if command.invoke_without_command else "group"
    return f"{sort}{', hidden' if command.hidden else ''}"


def _parameter(parameter: Any) -> str:
    """An option or an argument in a line."""
    kind = parameter.type_descriptor.annotation
    many = bool(get_args(kind))
    kind = get_args(kind)[0] if many else kind
    if isinstance(kind, EnumMeta):
        words = [f"one of {', '.join(sorted(str(member.value) for member in kind))}"]
    else:
        words = [KINDS[kind]]
    limits = [(name, getattr(parameter, name, None)) for name in ("min", "max")]
    words += [f"{name} {limit}" for name, limit in limits if limit is not None]
    facts = {"required": parameter.required, "hidden": getattr(parameter, "hidden", False)}
    words += ["repeated"] if many else []
    words += [name for name, is_so in facts.items() if is_so]
    default = getattr(parameter, "default", None)
    words += [f"default {default}"] if default not in (None, False, [], ()) else []
    words += [f"from {parameter.envvar}"] if getattr(parameter, "envvar", None) else []
    return f"{' / '.join([*parameter.opts, *parameter.secondary_opts])}: {', '.join(words)}"


def _leaves(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _operation(
    operation: dict[str, Any], document: dict[str, Any], problem: tuple[str, ...]
) -> Iterator[str]:
    yield "deprecated operation" if operation.get("deprecated") else "operation"
    for parameter in operation.get("parameters", ()):
        must = "required" if parameter.get("required") else "optional"
        for place, words in fields_of(parameter["schema"], document).items():
            yield f"{parameter['in']} {parameter['name']}{place} ({must}): {words}"
    if body := operation.get("requestBody"):
        must = "required" if body.get("required") else "optional"
        yield from under(f"body ({must})", _content(body, document))
    problems = []
    for code, response in operation["responses"].items():
        content = _content(response, document)
        if content == problem:
            problems.append(code)
        else:
            yield from under(code, content or ("no content",))
    yield f"problems {' '.join(sorted(problems))}"


def _content(response: dict[str, Any], document: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{kind} {place or 'document'}: {words}"
        for kind, body in sorted(response.get("content", {}).items())
        for place, words in fields_of(body.get("schema", {}), document).items()
    )


_COLUMNS = 'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)'


def _column(row: tuple[Any, ...]) -> str:
    name, kind, filled, default, key, hidden = row
    words = [kind or "no type", "not null" if filled else "may be null"]
    words += [f"default {default}"] if default is not None else []
    words += [f"key {key}"] if key else []
    words += ["generated"] if hidden else []
    return f"column {name}: {', '.join(words)}"


def _constraints(sql: str) -> Iterator[str]:
    """What a CREATE TABLE says besides its columns, and of columns what no pragma tells."""
    start, end = sql.index("("), sql.rindex(")")
    depth, part = 0, ""
    for letter in sql[start + 1 : end] + ",":
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            words = " ".join(part.split())
            if words.startswith(CHECKS):
                yield words
            elif found := re.search(r"\b(CHECK|REFERENCES|COLLATE|GENERATED|UNIQUE)\b.*", words):
                yield f"{words.split()[0]} {found[0]}"
            part = ""
        else:
            part += letter
    if options := sql[end + 1 :].strip():
        yield options
    if "AUTOINCREMENT" in sql.upper():
        yield "AUTOINCREMENT"


def _plain(path: Path) -> str:
    """A file of a station without dates and other names that are made up as they come."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d{4}Z", "DATE", str(path))
    return "" if text.endswith(("-wal", "-shm")) else re.sub(r"\bv\d{4}\b", "VERSION", text)


def _hidden_routes(web: Web) -> list[tuple[str, frozenset[str]]]:
    """Path and methods of every route that is in no OpenAPI document."""
    document = web.api("GET", "/api/v1/openapi.json", "admin").json()
    told = set(document["paths"])
    found = []
    for route in fastapi.routing.iter_route_contexts(web.app.routes):
        if route.methods is None:  # a folder
            found.append((STATIC.sub("/static/…/", f"{route.path}/"), frozenset({"files"})))
        elif route.path not in told:
            found.append((route.path, frozenset(route.methods)))
    return sorted(found, key=lambda one: (one[0], sorted(one[1])))


def _filled(path: str) -> str:
    """A path with something that exists in its places."""
    return path.replace("{media_id}", "1").replace("{version}", "v0001")


def _head(answer: Any) -> str:
    """Code, kind of content, and where it sends a browser."""
    words = [str(answer.status_code), answer.headers.get("content-type", "no content")]
    with suppress(KeyError):
        words.append(f"to {answer.headers['location']}")
    return ", ".join(words)


def _logging_in(web: Web) -> Iterable[str]:
    """What the login form and the way out answer."""
    yield f"POST /login with a wrong password: {_head(web.log_in('viewer', 'a short walk home'))}"
    yield f"POST /login without its hidden field: {_head(web.client.post('/login'))}"
    yield f"POST /login: {_head(web.log_in('viewer', PASSWORD))}"
    yield f"POST /logout without its hidden field: {_head(web.client.post('/logout'))}"
    yield f"POST /logout: {_head(web.client.post('/logout', data=web.form('/')))}"
    yield f"GET /nowhere: {_head(web.client.get('/nowhere'))}"
    yield f"GET /api/v1/nowhere: {_head(web.api('GET', '/api/v1/nowhere', 'admin'))}"
