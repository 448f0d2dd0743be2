"""`trapwatch label queue`, `label set-group`: what to look at next, what to decide at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from monitor.cli.app import (
    ByOption,
    ConfigOption,
    JsonOption,
    UsageError,
    read_settings,
    who,
)
from monitor.cli.labels import NewOption, absolute, label, observation_of, tell_new
from monitor.core.config import Settings
from monitor.core.domain import How, Sighting, utc_now
from monitor.log.label_errors import Suspect
from monitor.log.queues import QueueCandidate
from monitor.log.reviewing import Statement
from monitor.log.species_log import SpeciesLog, open_log
from monitor.review.features import features_of
from monitor.review.groups import MOST_COMPARED, Group, find_groups, keep_groups, label_group
from monitor.review.next_frames import ask_next
from monitor.system.console import note, print_json, print_table

FEW, MANY = 2000, 20_000
"""Candidates: so many at first, more where those are of a few events (a night of waving grass)."""


@label.command("queue")
def queue(
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    groups: Annotated[
        bool, typer.Option("--groups", help="Look-alikes, to be labelled by `set-group`.")
    ] = False,
    suspect: Annotated[
        bool, typer.Option("--suspect", help="Labels that look wrong to the last training.")
    ] = False,
    disagreement: Annotated[
        bool, typer.Option("--disagreement", help="Where people said different things.")
    ] = False,
    flagged: Annotated[bool, typer.Option("--flagged", help="What was flagged.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """What to look at next: the frames that teach most, each unlike those before it.

    Of a burst one frame is asked about, not ten that look the same. With --groups: frames that one
    decision can label together. With --suspect, --disagreement or --flagged: those frames instead,
    with what people said of them.

    Example: `trapwatch label queue --limit 50 --json`
    """
    if groups + suspect + disagreement + flagged > 1:
        raise UsageError(
            "--groups, --suspect, --disagreement and --flagged are four queues; ask for one of them"
        )
    settings = read_settings(config)
    with open_log(settings.database.url) as log:
        if groups:
            _show_groups(log, _groups(log, settings)[:limit], as_json=as_json)
        elif suspect:
            _show_suspects(log, limit, as_json=as_json)
        elif disagreement or flagged:
            media_ids = log.disagreements(limit) if disagreement else log.flagged(limit=limit)
            _show_disputed(log, media_ids, as_json=as_json)
        else:
            _show_queue(log, _next(log, settings, limit), as_json=as_json)


@label.command("set-group")
def set_group(
    group: Annotated[str, typer.Argument(help="An id from `label queue --groups`.")],
    species: Annotated[list[str], typer.Argument(help="SPECIES or SPECIES:COUNT, one or more.")],
    without: Annotated[
        list[str], typer.Option(help="A frame that shows something else; repeat it for more.")
    ] = [],  # noqa: B006  # typer copies it
    new: NewOption = False,
    by: ByOption = None,
    config: ConfigOption = None,
) -> None:
    """Say what is in all frames of a group that have no label yet. `label undo` takes all back.

    Example: `trapwatch label set-group g3f9a2c1b "roe deer" --without 17 --by Ana`
    """
    observations = [observation_of(text) for text in species]
    with open_log(read_settings(config).database.url) as log:
        odd = [log.find(media, absolute(media)) for media in without]
        name = who(by)
        done = label_group(
            log, group, observations, name, How.CLI, utc_now(), without=odd, insist=new
        )
        tell_new(done.outcome.new_species)
        said = " and ".join(species)
        note(f"{_frames(len(done.outcome.media_ids))} of group {group} labelled {said}")
        if done.left_alone:
            ids = ", ".join(map(str, done.left_alone))
            note(f"left alone, because somebody labelled them before: media {ids}")


def _next(log: SpeciesLog, settings: Settings, limit: int) -> list[int]:
    chosen: list[QueueCandidate] = []
    with features_of(settings, log) as features:
        for most in (max(FEW, limit), max(MANY, limit)):
            found = log.queue_candidates(most)
            chosen = ask_next(log, found, features, limit)
            if len(chosen) == limit or len(found) < most:
                break
    return [candidate.media_id for candidate in chosen]


def _groups(log: SpeciesLog, settings: Settings) -> list[Group]:
    with features_of(settings, log) as features:
        found = find_groups(log, log.newest_candidates(MOST_COMPARED), features)
    keep_groups(log, found, utc_now())
    return found


def _show_queue(log: SpeciesLog, media_ids: list[int], *, as_json: bool) -> None:
    sightings = log.sightings_of(media_ids)
    if as_json:
        print_json([asdict(sighting) for sighting in sightings])
        return
    rows = [
        (
            s.media_id,
            s.deployment,
            s.captured_local,
            " ".join(f"{name} {p:.2f}" for name, p in s.alternatives[:3]),
            s.path,
        )
        for s in sightings
    ]
    print_table(("id", "deployment", "captured", "the model thinks", "path"), rows)


def _show_groups(log: SpeciesLog, groups: Sequence[Group], *, as_json: bool) -> None:
    frames = _by_id(log, [media_id for group in groups for media_id in group.media_ids])
    if as_json:
        print_json([_group(one, [frames[m] for m in one.media_ids]) for one in groups])
        return
    if not groups:
        note(
            "there are no groups: of the newest unlabelled frames that went through the classifier "
            "(`trapwatch run`), no two look alike enough to be decided together"
        )
        return
    rows = [
        (
            one.id,
            len(one.media_ids),
            len({frames[m].event_id for m in one.media_ids}),
            ", ".join(sorted({frames[m].deployment for m in one.media_ids})),
            _thinks(one),
            " ".join(map(str, one.media_ids[:12])) + (" …" if len(one.media_ids) > 12 else ""),
        )
        for one in groups
    ]
    print_table(("group", "frames", "events", "deployments", "the model thinks", "ids"), rows)


def _group(one: Group, frames: Sequence[Sighting]) -> dict[str, object]:
    told = {"id": one.id, "species": one.species, "probability": one.probability}
    return told | {"media_ids": list(one.media_ids), "frames": [asdict(s) for s in frames]}


def _thinks(one: Group) -> str:
    return "" if one.species is None else f"{one.species} {one.probability:.2f}"


def _show_suspects(log: SpeciesLog, limit: int, *, as_json: bool) -> None:
    found = log.suspects(limit)
    frames = _by_id(log, [one.media_id for one in found])
    if as_json:
        print_json([asdict(frames[one.media_id]) | {"suspect": _doubt(one)} for one in found])
        return
    if not found:
        note(_why_no_suspects(log))
        return
    rows = [
        (
            one.media_id,
            frames[one.media_id].deployment,
            frames[one.media_id].captured_local,
            f"{one.by}: {one.label}",
            f"{one.suggested} {one.probability:.2f}",
            frames[one.media_id].path,
        )
        for one in found
    ]
    headings = ("id", "deployment", "captured", "was said", "training suggests", "path")
    print_table(headings, rows)


def _doubt(one: Suspect) -> dict[str, object]:
    return {name: value for name, value in asdict(one).items() if name != "media_id"}


def _why_no_suspects(log: SpeciesLog) -> str:
    version = log.suspects_version()
    if version is None:
        return (
            "no training has looked for wrong labels yet: the next one does "
            "(`trapwatch train --force` starts it now)"
        )
    return (
        f"no label looks wrong: all that the training of {version} doubted were looked at since, "
        "or it doubted none"
    )


def _show_disputed(log: SpeciesLog, media_ids: list[int], *, as_json: bool) -> None:
    """Frames that several people looked at, each with the last word of each of them."""
    sightings, said = log.sightings_of(media_ids), log.statements(media_ids)
    if as_json:
        print_json(
            [
                {**asdict(s), "statements": [_statement(one) for one in said.get(s.media_id, ())]}
                for s in sightings
            ]
        )
        return
    rows = [
        (
            s.media_id,
            s.deployment,
            s.captured_local,
            "; ".join(f"{one.by}: {', '.join(one.species)}" for one in said.get(s.media_id, ())),
            s.path,
        )
        for s in sightings
    ]
    print_table(("id", "deployment", "captured", "people said", "path"), rows)


def _statement(one: Statement) -> dict[str, object]:
    return {"by": one.by, "at": one.at, "species": one.species}


def _by_id(log: SpeciesLog, media_ids: Sequence[int]) -> dict[int, Sighting]:
    return {sighting.media_id: sighting for sighting in log.sightings_of(list(media_ids))}


def _frames(count: int) -> str:
    return f"{count} frame" if count == 1 else f"{count} frames"
