"""Label maps as files: in the input's own geometry and, unless asked otherwise, its own format family."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from medresnet3d.errors import ConfigError
from medresnet3d.io import RESULT_FORMATS, save_like

if TYPE_CHECKING:
    from medresnet3d.workflows.prediction import Prediction
    from medresnet3d.workflows.predictor import Predictor


def check_format(name: str | None) -> None:
    """Check the format that was asked for, before anything is computed.

    Raises:
        ConfigError: if it is unknown; the message names the nearest.
    """
    if name is None or name in RESULT_FORMATS:
        return
    near = difflib.get_close_matches(name.lower(), RESULT_FORMATS, 1)
    hint = f"did you mean {near[0]}?" if near else f"use {', '.join(RESULT_FORMATS)}."
    raise ConfigError(f"--format {name}: this format is unknown; {hint}")


def write_label_map(prediction: Prediction, predictor: Predictor, folder: Path, name: str | None) -> list[Path]:
    """Write the label map of one case as ``<case>_seg`` with the suffix of its format.

    Args:
        prediction: the answer; one without a label map has no file.
        predictor: its bundle describes the segments of a DICOM SEG.
        folder: where to.
        name: format asked for; ``None`` for that of the input.

    Returns:
        the files.

    Raises:
        ConfigError: if a DICOM SEG is asked for an input that is not DICOM.
        DataError: if a file cannot be written.
    """
    if prediction.pred is None or prediction.volume is None:
        return []
    return save_like(
        prediction.volume,
        prediction.pred,
        folder / f"{prediction.case}_seg",
        format=name,
        labels=prediction.labels,
        codes=predictor.metadata.get("codes"),
        bundle=predictor.bundle_name,
        version=str(predictor.metadata.get("version", "")),
    )
