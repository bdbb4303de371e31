from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from medresnet3d.data.phantoms.brain import brain_phantom
from medresnet3d.transforms.mri_shifts import SHIFTS

LABEL = torch.from_numpy(ndimage.zoom(brain_phantom(0, 64).labels, 2.0, order=0).astype(np.float32))[None]
IMAGE = torch.tensor([0.0, 0.3, 0.8, 1.2])[LABEL.long()]


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_changes_the_image_repeats_itself_and_leaves_air_empty(name: str) -> None:
    image, label = SHIFTS[name](IMAGE, LABEL)
    again, _ = SHIFTS[name](IMAGE, LABEL)
    assert torch.equal(image, again)
    assert image.shape == label.shape == IMAGE.shape
    assert float((image - IMAGE).abs().mean()) > 1e-3
    assert float(image[label == 0].abs().max()) == 0


def test_only_wide_ventricles_change_the_truth() -> None:
    for name, shift in SHIFTS.items():
        _, label = shift(IMAGE, LABEL)
        fluid = int((label == 1).sum()) / int((LABEL == 1).sum())
        assert (fluid > 1.01) if name == "wide ventricles" else torch.equal(label, LABEL)
