"""Register one scan to another with SimpleITK: an affine map, then a displacement field, kept on a coarse grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from medresnet3d.errors import GeometryError

Affine = NDArray[np.float64]
BINS = 32
SAMPLED = 0.2  # share of the voxels that the affine stage looks at
STEPS = 60


@dataclass(frozen=True, eq=False)
class Warp:
    """Where the points of one scan lie in another.

    Args:
        field: displacement in mm, (d, ...), on a regular grid over the fixed scan.
        affine: of that grid, (d + 1, d + 1), from its indices to mm.
    """

    field: NDArray[np.float32]
    affine: Affine


def to_sitk(values: NDArray[np.float32], affine: Affine) -> sitk.Image:
    """An image (i, j) or (i, j, k) with its place in space; the frame of ``affine`` is kept, whichever it is.

    Raises:
        GeometryError: if the axes are not perpendicular, which ITK cannot express.
    """
    spacing, direction = axes_of(affine)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(affine[:-1, -1].tolist())
    return image


def axes_of(affine: Affine) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Voxel size (d,) in mm and directions (d, d) of the axes.

    Raises:
        GeometryError: if the axes are not perpendicular.
    """
    matrix = affine[:-1, :-1]
    spacing = np.linalg.norm(matrix, axis=0)
    direction = matrix / spacing
    if not np.allclose(direction.T @ direction, np.eye(len(spacing)), atol=1e-3):
        raise GeometryError("the axes of the scan are not perpendicular; resample it (Spacingd) before registration.")
    return spacing, direction


def register(
    fixed: NDArray[np.float32],
    fixed_affine: Affine,
    moving: NDArray[np.float32],
    moving_affine: Affine,
    grid_mm: float = 4.0,
    iterations: int = 40,
    seed: int = 0,
) -> tuple[Warp, Warp]:
    """Find where the points of ``fixed`` lie in ``moving``, and the other way round.

    Affine by mutual information at three resolutions, started from the centres of mass; then diffeomorphic demons on
    the affinely aligned images, their histograms matched, at the resolution of the grid. The way back is the inverted
    field.

    Args:
        fixed: image (i, j) or (i, j, k).
        fixed_affine: (d + 1, d + 1).
        moving: image of as many dimensions.
        moving_affine: (d + 1, d + 1).
        grid_mm: distance between the points of the fields.
        iterations: of the demons.
        seed: of the voxels that the affine stage samples.

    Returns:
        fixed points to moving points, on a grid over ``fixed``; moving to fixed points, on a grid over ``moving``.

    Raises:
        GeometryError: if the axes of a scan are not perpendicular.
    """
    here, there = to_sitk(fixed, fixed_affine), to_sitk(moving, moving_affine)
    affine = _affine(here, there, seed)
    coarse = _coarse(here, grid_mm)
    target = sitk.Resample(here, coarse)
    aligned = sitk.Resample(there, coarse, affine, sitk.sitkLinear, float(moving.min()))
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    demons.SetNumberOfIterations(iterations)
    demons.SetStandardDeviations(1.5)
    field = demons.Execute(target, sitk.HistogramMatching(aligned, target, BINS * 4, 15))
    total = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(sitk.Image(field))])
    back = sitk.InvertDisplacementField(field, maximumNumberOfIterations=50)
    inverse = sitk.CompositeTransform(
        [sitk.DisplacementFieldTransform(sitk.Cast(back, sitk.sitkVectorFloat64)), affine.GetInverse()]
    )
    return _sampled(total, coarse), _sampled(inverse, _coarse(there, grid_mm))


def _affine(fixed: sitk.Image, moving: sitk.Image, seed: int) -> sitk.Transform:
    """Affine map from fixed to moving points."""
    dims = fixed.GetDimension()
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(dims), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(SAMPLED, seed + 1)  # 0 would take the clock
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, STEPS)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SetInitialTransform(start, inPlace=False)
    found = method.Execute(fixed, moving)
    return found.GetNthTransform(0) if isinstance(found, sitk.CompositeTransform) else found


def _coarse(image: sitk.Image, grid_mm: float) -> sitk.Image:
    """An empty grid over the image with voxels of about ``grid_mm``, never finer than the image."""
    size, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    count = np.maximum(4, np.minimum(size, np.ceil(size * spacing / grid_mm).astype(int)))
    step = size * spacing / count
    grid = sitk.Image(count.tolist(), sitk.sitkFloat32)
    grid.SetSpacing(step.tolist())
    grid.SetDirection(image.GetDirection())
    shift = np.array(image.GetDirection()).reshape(len(size), -1) @ ((step - spacing) / 2)
    grid.SetOrigin((np.array(image.GetOrigin()) + shift).tolist())
    return grid


def _sampled(transform: sitk.Transform, grid: sitk.Image) -> Warp:
    """Displacement of a transform at the points of a grid."""
    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
    )
    dims = grid.GetDimension()
    affine = np.eye(dims + 1)
    affine[:-1, :-1] = np.array(grid.GetDirection()).reshape(dims, dims) * np.array(grid.GetSpacing())
    affine[:-1, -1] = grid.GetOrigin()
    values = sitk.GetArrayFromImage(field)  # (k, j, i, d)
    return Warp(np.ascontiguousarray(values.T).astype(np.float32), affine)
