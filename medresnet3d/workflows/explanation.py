"""Where a classifier looked at a case: importance of every voxel for the class it chose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medresnet3d.errors import ConfigError, MedResNetError
from medresnet3d.names import require_name

if TYPE_CHECKING:
    from medresnet3d.workflows.prediction import Prediction
    from medresnet3d.workflows.predictor import Predictor

METHODS = ("gradcam", "occlusion", "evidence")
IMAGE = "explanation"
"""Name of the heat map among a prediction's images, and in its file's name."""


def check_method(method: str | None) -> None:
    """Refuse a method that does not exist, before anything is computed.

    Raises:
        ConfigError: with the two.
    """
    if method is not None:
        require_name("The method of --explain", method, METHODS)


def check_task(method: str | None, predictor: Predictor) -> None:
    """Refuse to explain what is not a classification.

    Raises:
        ConfigError: for a bundle of another task.
    """
    if method is not None and predictor.task != "classification":
        raise ConfigError(
            f"--explain {method}: {predictor.bundle_name} is a bundle for {predictor.task}; a heat map explains the "
            "class that a classifier chose, so leave --explain out."
        )


def explain(predictor: Predictor, prediction: Prediction, method: Any = "auto") -> NDArray[np.float32] | None:
    """Show which voxels of what the network saw speak for the class it chose.

    Args:
        predictor: its network is run again; the caller holds its ``network_lock``.
        prediction: with ``input_tensor``.
        method: ``"gradcam"``, ``"occlusion"`` or ``"auto"``, see :func:`medresnet3d.reports.attention.class_map`; or
            ``"evidence"``, the map on which a cascade chose what it looked at, or of the lesions that counted, which
            ``"auto"`` takes where there is one.

    Returns:
        Importance from 0 to 1 on the grid of the network's input, (i, j, k) or (i, j), of planes of a volume that the
        network sees as channels on the volume's; ``None`` where there is no
        class or the input was not kept.

    Raises:
        ConfigError: if Grad-CAM is asked for and the network has no feature maps that lead to the class, or evidence
            and the network is no cascade.
    """
    import torch

    from medresnet3d.reports.attention import class_map
    from medresnet3d.transforms.plane_packing import are_planes, unpack_planes

    if prediction.input_tensor is None or prediction.label is None:
        return None
    image = prediction.input_tensor.as_tensor().unsqueeze(0).to(predictor.device)
    target = list(prediction.probabilities).index(prediction.label)
    meta = prediction.input_tensor.meta
    has_evidence = hasattr(predictor.network, "evidence")
    is_cascade = has_evidence and not getattr(predictor.network, "has_class_maps", False)
    if (method == "gradcam" and is_cascade) or (method == "evidence" and not has_evidence):
        raise ConfigError(
            f"--explain {method}: {predictor.bundle_name} is {'a' if is_cascade else 'no'} cascade, so use "
            f"{'evidence' if is_cascade else 'gradcam'} or occlusion."
        )
    if has_evidence and method in ("evidence", "auto"):
        with torch.inference_mode():
            return np.asarray(predictor.network.evidence(image)[0].float().cpu())  # type: ignore[operator]
    found = class_map(predictor.network, image, target, method=method, apart=are_planes(meta))
    return unpack_planes(found, meta) if are_planes(meta) else found


def add_explanation(predictor: Predictor, prediction: Prediction, method: str) -> None:
    """Add the heat map to an answer: on the network's grid for the report, and on the scan's own as a further image.

    Where there is none to add, the answer gets a warning instead.

    Args:
        predictor: see :func:`explain`.
        prediction: it is changed.
        method: one of :data:`METHODS`.
    """
    from medresnet3d.workflows.answer_scene import heat_on_scan

    try:
        prediction.heat = explain(predictor, prediction, method)
    except MedResNetError as error:
        prediction.warnings.append(f"No heat map was made: {error}")
        return
    found = heat_on_scan(prediction)
    if found is None:
        prediction.warnings.append("No heat map was written: what the network saw does not lie on the scan's grid.")
        return
    prediction.images[IMAGE] = found
    prediction.details[IMAGE] = {"method": method, "class": prediction.label}
