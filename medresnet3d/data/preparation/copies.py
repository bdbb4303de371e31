"""Pictures that are there more than once: byte by byte, or re-encoded, resized and slightly cropped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medresnet3d.data import likeness
from medresnet3d.data.preparation.cohort import Cohort
from medresnet3d.progress import track

COPY = "copy of another image"
CONTRADICTION = "copies with different labels"
THREADS = 4


def drop_copies(cohort: Cohort, labelled: Sequence[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """Keep one of the files that are equal byte by byte, and none where their labels differ; the rest is counted.

    Only files of equal size are read.

    Args:
        cohort: counts what is dropped.
        labelled: files with their labels.

    Returns:
        what is kept, in the same order.
    """
    sizes: defaultdict[int, list[tuple[Path, str]]] = defaultdict(list)
    for path, label in labelled:
        sizes[path.stat().st_size].append((path, label))
    dropped: set[Path] = set()
    for same_size in sizes.values():
        content: defaultdict[bytes, list[tuple[Path, str]]] = defaultdict(list)
        for path, label in same_size if len(same_size) > 1 else []:
            content[likeness.content_digest([path])].append((path, label))
        for copies in content.values():
            alike = len({label for _, label in copies}) == 1
            for path, _ in copies[1 if alike else 0 :]:
                if len(copies) > 1:
                    cohort.drop(COPY if alike else CONTRADICTION, path.name)
                    dropped.add(path)
    return [(path, label) for path, label in labelled if path not in dropped]


def near_duplicate_groups(paths: Sequence[Path]) -> list[int]:
    """Number the groups of pictures that look the same.

    Args:
        paths: pictures.

    Returns:
        the number of its group for each.
    """
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        signs = np.stack(list(track(pool.map(_signs, paths), "reading pictures", total=len(paths))))
    return likeness.near_duplicate_groups(signs)


def _signs(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        image.draft("L", (likeness.REDUCED, likeness.REDUCED))  # a JPEG file is decoded no larger than needed
        return likeness.picture_signs(image)
