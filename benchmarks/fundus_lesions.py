"""Manifests of the photographs with outlined lesions, for ``pictures.py --set fundus --values lesion_data=...``.

    python benchmarks/fundus_lesions.py --data fundus/manifest.json --out results

``lesions_all.json`` lists all, ``lesions_others.json`` those that are not among the graded photographs too (found by
likeness), so that a finder that learns from them has seen no photograph of any fold. Label maps: 1 microaneurysms, 2
haemorrhages, 3 hard exudates, as ``medresnet3d data prepare idrid`` writes them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from macular_edema import ALIKE, disc, thumbnail
from PIL import Image

from medresnet3d.io import load
from medresnet3d.io.atomic import atomic_path, atomic_write_text

KINDS = {"HE": 2, "MA": 1, "EX": 3}
NAMES = {"0": "background", "1": "microaneurysm", "2": "haemorrhage", "3": "hard exudate"}


def label_map(folder: Path, item: dict[str, str], target: Path) -> Path:
    """Write the label map of a photograph; where lesions overlap, the smaller kind is kept."""
    masks = {
        value: load(folder / item[name], constant_ok=True).array[:, :, 0].T > 0
        for name, value in KINDS.items()
        if name in item
    }
    found = np.zeros(next(iter(masks.values())).shape, dtype=np.uint8)
    for value, mask in masks.items():
        found[mask] = value
    path = target / f"{Path(item['image']).stem}_lesions.png"
    with atomic_path(path) as temporary:
        Image.fromarray(found).save(temporary, format="PNG")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="manifest with `training` and `lesions`")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    folder, content = options.data.parent.resolve(), json.loads(options.data.read_text(encoding="utf-8"))
    (options.out / "lesions").mkdir(parents=True, exist_ok=True)
    graded = np.stack([thumbnail(disc(folder / item["image"])) for item in content["training"]])
    entries: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for item in content["lesions"]:
        mask = label_map(folder, item, (options.out / "lesions").resolve())
        entries.append({"image": str(folder / item["image"]), "mask": str(mask), "patient": Path(item["image"]).stem})
        if float((graded @ thumbnail(disc(folder / item["image"]))).max()) <= ALIKE:
            others.append(entries[-1])
    head = {"name": "fundus lesions", "task": "segmentation", "modality": content["modality"], "labels": NAMES}
    for name, listed in (("all", entries), ("others", others)):
        text = json.dumps({**head, "training": listed}, indent=1) + "\n"
        atomic_write_text(options.out / f"lesions_{name}.json", text)
    print(f"{len(entries)} photographs with lesions, {len(others)} of them not among the graded ones")


if __name__ == "__main__":
    main()
