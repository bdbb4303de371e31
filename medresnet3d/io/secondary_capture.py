"""DICOM secondary capture out: a picture of a result, with the sentence on research use burnt in."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.uid import RLELossless

from medresnet3d._version import __version__
from medresnet3d.errors import DataError
from medresnet3d.io.atomic import atomic_path
from medresnet3d.io.dicom_results import DISCLAIMER, LONGEST_NAME, MANUFACTURER, new_series, source_headers
from medresnet3d.io.volume import Volume

_STUDY_TAGS = {
    "study_instance_uid": "StudyInstanceUID",
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "accession_number": "AccessionNumber",
    "study_id": "StudyID",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "referring_physician_name": "ReferringPhysicianName",
}
_BANNER = (255, 214, 0)


def write_secondary_capture(
    picture: NDArray[np.uint8], volume: Volume, path: str | os.PathLike[str], *, bundle: str = MANUFACTURER
) -> Path:
    """Write a colour picture as DICOM secondary capture in the study of its scan.

    A banner with the sentence on research use is added below the picture and cannot be left out. The picture must not
    show who the patient is: the object says that nothing burnt in does.

    Args:
        picture: (rows, columns, 3), RGB.
        volume: the scan, read from DICOM.
        path: the file to write.
        bundle: name of the bundle that made the result.

    Returns:
        The path.

    Raises:
        DataError: if the scan is not DICOM or the picture is not RGB.
    """
    header = source_headers(volume, "A secondary capture")[0]
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise DataError(f"{path}: the picture has shape {picture.shape} and type {picture.dtype}; give RGB bytes.")
    study: dict[str, Any] = {name: header.get(tag) or None for name, tag in _STUDY_TAGS.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values of the source that break the standard are copied as they are
        made = hd.sc.SCImage(
            pixel_array=with_banner(picture),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),
            transfer_syntax_uid=RLELossless,
            series_description=f"Overview. {DISCLAIMER}",
            manufacturer_model_name=bundle[:LONGEST_NAME],
            software_versions=__version__,
            **study,
            **new_series(header, "SC"),
        )
    made.BurnedInAnnotation = "NO"
    made.ImageComments = f"Made by {bundle}. {DISCLAIMER}"
    made.ImageType = ["DERIVED", "SECONDARY"]
    target = Path(path)
    with atomic_path(target) as temporary:
        made.save_as(temporary)
    return target


def with_banner(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add a banner with the sentence on research use below a picture; a narrow one is widened to hold it.

    Args:
        picture: (rows, columns, 3), RGB.

    Returns:
        (more rows, columns or more, 3), RGB.
    """
    rows, columns, _ = picture.shape
    font = ImageFont.load_default(max(12, round(columns / 40)))
    left, top, right, bottom = font.getbbox(DISCLAIMER)
    height, width = round(2 * (bottom - top)), max(columns, round(right - left) + 16)
    canvas = Image.new("RGB", (width, rows + height))
    canvas.paste(Image.fromarray(picture), ((width - columns) // 2, 0))
    middle = (width / 2, rows + height / 2)
    ImageDraw.Draw(canvas).text(middle, DISCLAIMER, fill=_BANNER, font=font, anchor="mm")
    return np.asarray(canvas)
