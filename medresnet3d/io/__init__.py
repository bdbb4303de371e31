"""Reading and writing scans and results.

Everything that enters is judged here: :func:`load` reads any known format, converts its geometry to RAS+ and refuses,
in one sentence, what cannot be used. :func:`save_nifti` and :func:`save_like` write results back in the geometry of
their scan. What needs pydicom or highdicom is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medresnet3d._lazy import lazy_names
from medresnet3d.io.atomic import atomic_path, atomic_write_text
from medresnet3d.io.reading import KNOWN_SUFFIXES, is_dicom, known_suffix, load, load_each, load_header
from medresnet3d.io.volume import Source, Volume, as_volume, require_same_grid, same_grid
from medresnet3d.io.writing import RESULT_FORMATS, save_grey_picture, save_itk, save_like, save_nifti

if TYPE_CHECKING:
    from medresnet3d.io.dicom import list_series, load_all
    from medresnet3d.io.dicom_series import SeriesInfo
    from medresnet3d.io.dicom_sr import Findings, write_dicom_sr
    from medresnet3d.io.dicomseg import read_dicom_seg, write_dicom_seg
    from medresnet3d.io.secondary_capture import write_secondary_capture

__all__ = [
    "KNOWN_SUFFIXES",
    "RESULT_FORMATS",
    "Findings",
    "SeriesInfo",
    "Source",
    "Volume",
    "as_volume",
    "atomic_path",
    "atomic_write_text",
    "is_dicom",
    "known_suffix",
    "list_series",
    "load",
    "load_all",
    "load_each",
    "load_header",
    "read_dicom_seg",
    "require_same_grid",
    "same_grid",
    "save_grey_picture",
    "save_itk",
    "save_like",
    "save_nifti",
    "write_dicom_seg",
    "write_dicom_sr",
    "write_secondary_capture",
]

_HOMES = {
    "Findings": "dicom_sr",
    "SeriesInfo": "dicom_series",
    "list_series": "dicom",
    "load_all": "dicom",
    "read_dicom_seg": "dicomseg",
    "write_dicom_seg": "dicomseg",
    "write_dicom_sr": "dicom_sr",
    "write_secondary_capture": "secondary_capture",
}


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
