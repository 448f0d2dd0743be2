"""Scores of how strange a frame is to a head: those that were compared for `unknown`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.linalg import norm
from sklearn.covariance import ledoit_wolf

from monitor.model.head import Floats, softmax, strangeness, unit_parts
from monitor.training.head import balanced_weights, standard
from monitor.training.logistic import Samples, fit_path

DIRECTIONS = 128
NEIGHBOURS = 5
Array = np.ndarray[Any, np.dtype[Any]]


def strange_scores(
    x: Floats, y: Array, test: Floats, strength: float, parts: tuple[int, ...] | None
) -> dict[str, Array]:
    """Name -> score (m,) of each test row; higher is stranger.

    Args:
        x, y: features (n, d) and class numbers of what is learnt.
    """
    classes, numbers = np.unique(y, return_inverse=True)
    x, test = unit_parts(x, parts), unit_parts(test, parts)
    mean, scale = standard(x)
    x, test = (x - mean) / scale, (test - mean) / scale
    samples = Samples(x, numbers, balanced_weights(numbers, len(classes)))
    (layer,) = fit_path(samples, len(classes), [strength * len(mean)])
    logits = layer.logits(test)
    p = softmax(logits)
    energy = np.log(np.exp(logits).sum(axis=1))
    scores = {
        "energy / length (ours)": strangeness(logits, test),
        "highest probability": -p.max(axis=1),
        "entropy": -(p * np.log(np.maximum(p, 1e-12))).sum(axis=1),
        "energy": -energy,
        "decision boundaries (fDBD)": -_boundaries(logits, layer.weights) / norm(test, axis=1),
        "nearest neighbours": -_nearest(x, test),
    }
    scores |= _gaussians(x, numbers, test, layer.logits(x), energy)
    ours, near = scores["energy / length (ours)"], scores["nearest neighbours"]
    whitened = scores["cosine to centres, whitened"]
    scores["ranks: ours + nearest neighbours"] = _ranks(ours) + _ranks(near)
    scores["ranks: ours + cosine, whitened"] = _ranks(ours) + _ranks(whitened)
    return scores


def _ranks(score: Array) -> Array:
    return score.argsort().argsort()


def _boundaries(logits: Floats, weights: Floats) -> Array:
    """Mean distance to the boundaries of the answer: Liu & Qin 2024."""
    best = logits.argmax(axis=1)
    between = norm(weights[:, best].T[:, None, :] - weights.T[None, :, :], axis=2)
    gaps = logits.max(axis=1, keepdims=True) - logits
    distances = gaps / np.where(between > 0, between, np.inf)
    return np.asarray(distances.sum(axis=1) / (logits.shape[1] - 1))


def _nearest(x: Floats, test: Floats) -> Array:
    """Cosine to the fifth nearest: Sun et al. 2022."""
    units = [rows / norm(rows, axis=1, keepdims=True) for rows in (x, test)]
    return np.asarray(np.sort(units[1] @ units[0].T, axis=1)[:, -NEIGHBOURS])


def _gaussians(
    x: Floats, y: Array, test: Floats, taught: Floats, energy: Array
) -> dict[str, Array]:
    """Mahalanobis (Lee et al. 2018), relative to the whole (Ren et al. 2021), the angle alone, and
    what no direction explains against the energy (ViM: Wang et al. 2022)."""
    _, directions = np.linalg.eigh(np.cov(x.T))
    directions = directions[:, ::-1][:, :DIRECTIONS]
    a, b = x @ directions, test @ directions
    centres = np.stack([a[y == c].mean(axis=0) for c in np.unique(y)])
    within, whole = (np.linalg.inv(ledoit_wolf(rows)[0]) for rows in (a - centres[y], a))
    to_centres = np.stack([_squared(b - centre, within) for centre in centres]).min(axis=0)
    root = np.linalg.cholesky(within)
    units = [rows @ root / norm(rows @ root, axis=1, keepdims=True) for rows in (b, centres)]
    left = np.sqrt(np.maximum((test**2).sum(axis=1) - (b**2).sum(axis=1), 0))
    left_of_taught = np.sqrt(np.maximum((x**2).sum(axis=1) - (a**2).sum(axis=1), 0))
    return {
        "Mahalanobis": to_centres,
        "Mahalanobis, relative": to_centres - _squared(b, whole),
        "cosine to centres, whitened": -(units[0] @ units[1].T).max(axis=1),
        "ViM": left * taught.max(axis=1).mean() / left_of_taught.mean() - energy,
    }


def _squared(rows: Array, precision: Array) -> Array:
    return np.asarray(np.einsum("nd,de,ne->n", rows, precision, rows))
