"""What the config tells the decoder and the backbone, and what the backbone made of it."""

from __future__ import annotations

from monitor.core.config import Settings
from monitor.images.decode import DecodeRules
from monitor.model.backbone import INPUT_SIZES, Backbone, BackboneOptions
from monitor.model.backbone.trial import remembered


def decode_rules(settings: Settings) -> DecodeRules:
    """What the decoder is told."""
    classifier = settings.classifier
    return DecodeRules(
        max_pixels=classifier.max_pixels,
        accept_truncated=classifier.accept_truncated,
        size=INPUT_SIZES[classifier.backbone],
    )


def backbone_options(settings: Settings) -> BackboneOptions:
    """What the backbone is told."""
    c = settings.classifier
    return BackboneOptions(
        backbone=c.backbone,
        weights=c.weights,
        engine=c.engine,
        device=c.device,
        precision=c.precision,
        threads=c.threads,
        batch_size=c.batch_size,
        weights_cache=settings.data_directory / "weights",
        allow_download=c.allow_download,
    )


def engine_facts(backbone: Backbone, options: BackboneOptions) -> dict[str, object]:
    """Which engine works here and how fast it was in the trial, for `status`."""
    choice = remembered(options) if options.engine == "auto" else None
    return {
        "description": backbone.description,
        "lanes": backbone.lanes,
        "batch_size": backbone.batch_size,
        "trial": str(choice) if choice else None,
    }
