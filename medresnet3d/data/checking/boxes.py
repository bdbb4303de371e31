"""Boxes of findings: do they lie in their image, and are they in the right frame?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from medresnet3d.data.checking.findings import Level
from medresnet3d.io import Volume
from medresnet3d.io.detections import PICTURE_CORNERS, VOLUME_CORNERS, box_corners, change_handedness

Boxes = Sequence[Sequence[float]]


def box_problems(volume: Volume, boxes: Boxes) -> Iterator[tuple[Level, str, str]]:
    """Find boxes that cannot belong to an image.

    Args:
        volume: the image; its header is enough.
        boxes: of findings and excluded findings, as a manifest has them.

    Yields:
        Level, kind and sentence.
    """
    is_picture = volume.source.format == "image"
    wanted = PICTURE_CORNERS if is_picture else VOLUME_CORNERS
    wrong = [box for box in boxes if len(box) != wanted]
    if wrong:
        unit = "x0, y0, x1, y1 in pixels" if is_picture else "x0, y0, z0, x1, y1, z1 in mm"
        yield "error", "box", f"the box {list(wrong[0])} is not of this kind of image; give {unit}."
        return
    corners = box_corners(boxes)
    centres = corners.mean(axis=1)
    outside = ~_inside(volume, centres)
    if outside.any():
        number = int(outside.argmax())
        hint = (
            " (changing the signs of x and y would bring them in: they are in LPS)" if _is_lps(volume, centres) else ""
        )
        yield (
            "error",
            "box",
            f"{int(outside.sum())} of {len(boxes)} boxes, first {list(boxes[number])}, have their centre outside of "
            f"{volume.source.name}{hint}; correct them.",
        )


def _inside(volume: Volume, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which points, mm, lie in the image."""
    voxels = apply_affine(np.linalg.inv(volume.affine), points)
    # an image of one slice has no thickness to speak of
    axes = [axis for axis, length in enumerate(volume.shape) if length > 1]
    return ((voxels > -1) & (voxels < np.asarray(volume.shape)))[:, axes].all(axis=1)


def _is_lps(volume: Volume, centres: NDArray[np.float64]) -> bool:
    return volume.source.format != "image" and bool(_inside(volume, change_handedness(centres)).all())
