"""How long frames wait while the service retrains beside them (VGG16, 200 labels).

    python benchmarks/retrain_latency.py [--backbone vgg16] [--every 1.0]

Exit status 1 if a frame waited longer than three times the usual or was dropped, or if no model
went live.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from monitor.cli.demo.world import plan, write_world
from tests.faults.drill import Drill
from tests.faults.random_kill import processor_name
from tests.faults.retraining import LONGER, retrain_while_frames_arrive


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="vgg16", choices=("vgg16", "small"))
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two frames")
    parser.add_argument("--usual", type=float, default=40.0, help="seconds before the labels")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="retrain-"))
    arriving = int((chosen.usual + 120) / chosen.every)
    world = plan(11, chosen.labels + arriving)
    write_world(world, folder / "pool", 11)
    drill = Drill(folder / "station")
    drill.configure(
        backbone=chosen.backbone, schedule="* * * * *", min_new_labels=chosen.labels, nice=15
    )
    outcome = retrain_while_frames_arrive(
        drill,
        folder / "pool",
        {frame.path: frame.species for frame in world.frames},
        labelled=chosen.labels,
        every=chosen.every,
        usual_seconds=chosen.usual,
    )
    print(f"machine: {processor_name()}\n{outcome}")
    shutil.rmtree(folder, ignore_errors=True)
    late = outcome.during.seconds[-1] > LONGER * outcome.before.at(0.5)
    return int(late or bool(outcome.faults))


if __name__ == "__main__":
    sys.exit(main())
