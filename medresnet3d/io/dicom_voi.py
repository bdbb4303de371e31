"""The values of interest of a DICOM picture: what its maker's window or look-up table makes of the stored values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import apply_voi_lut

from medresnet3d.errors import DataError
from medresnet3d.io.dicom_pixels import is_inverted
from medresnet3d.io.dicom_values import number
from medresnet3d.io.volume import Volume


def with_voi_lut(volume: Volume, view: int = 0) -> Volume:
    """Apply the VOI look-up table or the window of a DICOM image's own header, by pydicom.

    :func:`medresnet3d.io.load` gives values before this step, as they were measured. In mammograms that is raw
    detector signal, and the table is what gives them the looks that readers and networks know. A table goes before a
    window. High stays bright, also where the file is stored inverted (MONOCHROME1).

    Args:
        volume: as read.
        view: which of several windows or tables, from 0.

    Returns:
        The same grid with new values; the volume itself where it is not DICOM or its header has neither.

    Raises:
        DataError: if the volume was put on another grid than that of its images, so that a window for each image cannot
            be applied, or there is no such view.
    """
    source = volume.source
    if source.format != "dicom" or not any(_has_voi(dataset) for dataset in source.datasets):
        return volume
    if source.regridded:
        raise DataError(
            f"{source.name}: its slices were resampled, so that their windows cannot be applied; do without."
        )
    slices = volume.shape[2]
    datasets = source.datasets * slices if len(source.datasets) == 1 else source.datasets
    try:
        planes = [_shown(volume.array[:, :, k], datasets[k], view) for k in range(slices)]
    except (IndexError, ValueError, NotImplementedError) as error:
        raise DataError(f"{source.name}: its window or look-up table {view} cannot be applied ({error}).") from error
    return volume.with_array(np.stack(planes, axis=-1))


def _has_voi(dataset: Dataset) -> bool:
    return bool(dataset.get("VOILUTSequence")) or dataset.get("WindowCenter") is not None


def _shown(values: NDArray[Any], dataset: Dataset, view: int) -> NDArray[Any]:
    """One plane; for the time of the table an inverted one is turned back."""
    if not is_inverted(dataset):
        return apply_voi_lut(values, dataset, view)
    top = 2 ** int(number(dataset, "BitsStored") or 16) - 1 if not number(dataset, "PixelRepresentation") else -1
    whole = (number(dataset, "RescaleSlope") or 1) * top + 2 * (number(dataset, "RescaleIntercept") or 0)
    turned = (whole - values).astype(values.dtype if float(whole).is_integer() else np.float32)
    shown = apply_voi_lut(turned, dataset, view)
    tables = dataset.get("VOILUTSequence")
    return (2 ** int(tables[view].LUTDescriptor[2]) - 1 if tables else whole) - shown.astype(np.float32)
