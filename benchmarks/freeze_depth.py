"""How much of a pretrained network should learn from few masses (``mammogram_mass_transfer``), on phantoms.

    python benchmarks/freeze_depth.py --output sweep

A network learns from ``SOURCE`` phantom masses whose margins are plain to see. From there, each depth of
``compare --preset freeze-depth`` learns from ``TARGET`` masses of other patients, whose margins differ less, with the
same number of steps and the better of two learning rates by an inner split, and so does a random start; ``UNSEEN``
more are the measure. What is seen follows from how phantoms are drawn. Finished parts are kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from medresnet3d.data.phantoms.mammography import write_cbis_ddsm
from medresnet3d.io.atomic import atomic_write_text
from medresnet3d.workflows.compare import compare
from medresnet3d.workflows.compare_presets import preset_factor
from medresnet3d.workflows.train import train

BUNDLE = "mammogram_mass_transfer"
SOURCE, TARGET, UNSEEN = 400, 24, 200
EASY, HARD = 0.3, 0.5
SIZE = (96, 72)
SHARED = {"image_size": 48, "batch_size": 8}
RATES = (3e-4, 3e-3)
STEPS, SEEDS = 120, 5


def few_masses(folder: Path) -> Path:
    """A manifest with ``TARGET`` masses to learn from and ``UNSEEN`` to measure on."""
    manifest = write_cbis_ddsm(folder, TARGET, UNSEEN, seed=11, size=SIZE, difficulty=HARD)
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["validation"] = content.pop("test")
    atomic_write_text(manifest, json.dumps(content, indent=1) + "\n")
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20, help="of the network that is pretrained")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = options.output / "source"
    weights = source / "run" / "bundle" / "models" / "model.pt"
    if not weights.exists():
        masses = write_cbis_ddsm(source / "masses", SOURCE, 8, seed=5, size=SIZE, difficulty=EASY)
        train(BUNDLE, masses, source / "run", set=SHARED | {"max_epochs": options.epochs}, device="cpu")
    levels = dict(preset_factor("freeze-depth").levels) | {"random_start": {"freeze_until": "none", "pretrained": None}}
    result = compare(
        BUNDLE,
        few_masses(options.output / "target"),
        options.output / "sweep",
        vary={"freeze_depth": levels},
        seeds=SEEDS,
        budget=f"{STEPS}steps",
        learning_rates=RATES,
        workers=options.workers,
        set=SHARED | {"pretrained": str(weights)},
        device="cpu",
    )
    for arm in result.summary.arms:
        ahead = "" if arm.test is None else f"; against the last two blocks {arm.test.difference}"
        print(f"{arm.name}: {result.summary.metric} {arm.mean}{ahead}", flush=True)


if __name__ == "__main__":
    main()
