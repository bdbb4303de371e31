"""DRIVE: 40 fundus photographs with outlined vessels (Staal et al., IEEE Trans. Med. Imaging 2004)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.data.preparation.folders import PICTURES, Pictures
from medresnet3d.data.preparation.masks import foreground
from medresnet3d.data.preparation.mimics import disc, generator, picture, write_picture

OBSERVERS = {"1st": "manual1", "2nd": "manual2"}


def collect(cohort: Cohort, *, observer: str = "1st") -> None:
    """List both parts; newer downloads come without the vessels of the test part.

    Args:
        cohort: to fill.
        observer: whose vessels are the truth of the test part: ``1st`` or ``2nd``.
    """
    for part, section, who in (("training", "training", "1st"), ("test", "test", observer)):
        patterns = [f"{part}/images/*_{part}{suffix}" for suffix in PICTURES]
        images = cohort.folder.files(*patterns)
        if part == "training":
            images = cohort.folder.require("training photographs", *patterns)
        files = cohort.folder.files(f"{part}/{who}_manual/*_{OBSERVERS.get(who, who)}.*")
        vessels = Pictures(files, key=lambda path: path.stem.partition("_")[0])
        for image in images:
            name = image.stem.partition("_")[0]
            if name in vessels:
                mask = cohort.label_map(f"{name}_{part}", partial(foreground, vessels[name]))
                cohort.add(image, section=section, patient=name, mask=mask)
            elif not vessels and part == "test":
                cohort.add(image, section=section, patient=name)
            else:
                cohort.drop("vessels missing", image.name)


def mimic(folder: Path, seed: int) -> None:
    """Write both parts with vessels and fields of view as GIF."""
    rng = generator(seed, "drive")
    for part, numbers in (("training", range(21, 27)), ("test", range(1, 4))):
        for index in numbers:
            base = folder / "DRIVE" / part
            write_picture(base / "images" / f"{index:02d}_{part}.tif", picture(rng, (40, 38)))
            write_picture(base / "mask" / f"{index:02d}_{part}_mask.gif", disc((40, 38), (20, 19), 18))
            write_picture(base / "1st_manual" / f"{index:02d}_manual1.gif", disc((40, 38), (20, 19), 4))
            if part == "test":
                write_picture(base / "2nd_manual" / f"{index:02d}_manual2.gif", disc((40, 38), (20, 19), 3))
