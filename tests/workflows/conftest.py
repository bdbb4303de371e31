"""Bundles and scans that several tests of the workflows use."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.workflows.detection_bundle import detection_bundle, write_balls
from tests.workflows.tiny_bundles import cube_bundle, threshold_bundle

# Oblique, anisotropic, left-handed, with permuted axes: nothing about it is RAS.
OBLIQUE = np.array(
    [[0.26, -1.15, 0.31, 12.0], [0.07, 0.38, 0.86, -33.0], [-2.98, -0.12, 0.02, 71.0], [0.0, 0.0, 0.0, 1.0]]
)


def orthogonal(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest affine without shear, with the same voxel sizes."""
    size = np.linalg.norm(affine[:3, :3], axis=0)
    u, _, vt = np.linalg.svd(affine[:3, :3] / size)
    result = affine.copy()
    result[:3, :3] = u @ vt * size
    return result


def save_scan(path: Path, seed: int = 0, shape: tuple[int, int, int] = (19, 23, 11)) -> NDArray[np.float32]:
    """Write a smooth random scan with values around the threshold on an oblique grid."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.0)
    array = (100 + 60 * noise / noise.std()).astype(np.float32)
    nib.save(nib.Nifti1Image(array, orthogonal(OBLIQUE)), path)
    return array


@pytest.fixture(scope="session")
def thresholder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return threshold_bundle(tmp_path_factory.mktemp("bundles") / "thresholder")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cube_bundle(tmp_path_factory.mktemp("bundles") / "classifier")


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return detection_bundle(tmp_path_factory.mktemp("bundles") / "detector")


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of four scans for :func:`detector`."""
    return write_balls(tmp_path_factory.mktemp("balls"))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    save_scan(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"
