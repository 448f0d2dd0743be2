"""How far a fine-tuning is, on disk after every epoch: one that was killed goes on from there."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np

from monitor.system.files import write_whole
from monitor.training.finetune import Standing

logger = logging.getLogger(__name__)


class Checkpoint:
    """One file. It belongs to one course on one set of labels, named by `fingerprint`; that of
    another is as good as none."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self._fingerprint = path, fingerprint

    def load(self) -> Standing:
        """Where the same course was ended; a fresh start if there is nothing to go on from."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            content = self.path.read_bytes()
            arrays = load(content)
            length = int.from_bytes(content[:8], "little")
            about = json.loads(content[8 : 8 + length])["__metadata__"]
            if about["fingerprint"] != self._fingerprint:
                logger.info("the labels have changed since: fine-tuning starts anew")
                return Standing()
            return Standing(
                int(about["epoch"]),
                [arrays[f"weight{i}"] for i in range(int(about["weights"]))],
                [arrays[f"mean{i}"] for i in range(int(about["means"]))],
                int(about["averaged"]),
                json.loads(about["history"]),
                int(about["epochs"]),
            )
        except FileNotFoundError:
            return Standing()
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            logger.warning("%s cannot be used, fine-tuning starts anew: %s", self.path, error)
            return Standing()

    def keep(self, standing: Standing) -> None:
        """Write it down, whole or not at all. A disk that refuses ends no training."""
        from safetensors.numpy import save

        arrays = {f"weight{i}": np.ascontiguousarray(a) for i, a in enumerate(standing.weights)}
        arrays |= {f"mean{i}": np.ascontiguousarray(a) for i, a in enumerate(standing.mean)}
        about = {
            "fingerprint": self._fingerprint,
            "epoch": str(standing.epoch),
            "epochs": str(standing.epochs),
            "weights": str(len(standing.weights)),
            "means": str(len(standing.mean)),
            "averaged": str(standing.averaged),
            "history": json.dumps(standing.history),
        }
        try:
            write_whole(save(arrays, about), self.path)
        except OSError as error:
            logger.warning("the training cannot be kept for later in %s: %s", self.path, error)

    def drop(self) -> None:
        """The course is at its end."""
        self.path.unlink(missing_ok=True)
