"""A bundle kept in memory, ready to answer one case after the other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.utils import convert_to_numpy
from numpy.typing import NDArray

from medresnet3d.bundle.load import fill_network, load_config, load_state_dict, weights_hash
from medresnet3d.bundle.registry import find_bundle, read_metadata
from medresnet3d.bundle.trust import require_trust
from medresnet3d.data.cases import case_ids
from medresnet3d.engines import Precision, select_device
from medresnet3d.engines.inferer import PrecisionInferer, main_output
from medresnet3d.errors import BundleError, DataError, GeometryError, MedResNetError
from medresnet3d.io import Volume, load
from medresnet3d.workflows.prediction import Prediction, structure_volumes
from medresnet3d.workflows.pseudonym import pseudonym

TASKS = ("segmentation", "classification", "regression")

PathLike = str | os.PathLike[str]
Case = PathLike | Sequence[PathLike] | Volume | Mapping[str, Any]


class Predictor:
    """A bundle in memory: call it with a scan and get a :class:`~medresnet3d.workflows.prediction.Prediction`.

    Args:
        bundle: a name from ``bundle list``, a bundle folder or a RUN folder of ``train``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        trust: accept a bundle from elsewhere although the inspection found something.
        series: which DICOM series to take where there are several.
        **overrides: values of ids of ``inference.json``, e.g. ``width=64``.

    Attributes:
        bundle_path: folder of the bundle.
        bundle_name: its name.
        metadata: content of its ``metadata.json``.
        task: ``"segmentation"``, ``"classification"`` or ``"regression"``.
        labels: class names in index order.
        network: in eval mode, on ``device``.
        device: where it computes.
        weights_hash: SHA-256 of the weights file.

    Raises:
        BundleError: if the bundle is not found or incomplete.
        UntrustedBundleError: if it comes from elsewhere and is not trusted.
        WeightsError: if it has no trained weights or they do not fit.
        ConfigError: for an unknown device or override.

    Example:
        >>> predictor = Predictor("brain_tissue_voxresnet")  # doctest: +SKIP
        >>> predictor("t1.nii.gz").volumes_ml  # doctest: +SKIP
        {'CSF': 312.4, 'grey matter': 640.2, 'white matter': 512.9}
    """

    def __init__(
        self,
        bundle: PathLike,
        device: str = "auto",
        trust: bool = False,
        *,
        series: str | None = None,
        **overrides: Any,
    ) -> None:
        self.bundle_path = find_bundle(bundle)
        require_trust(self.bundle_path, trust)
        self.series = series
        self.metadata = read_metadata(self.bundle_path)
        self.bundle_name = str(self.metadata.get("name") or self.bundle_path.name)
        self.task = self._read_task()
        self.labels = _label_names(self.metadata)
        parser = load_config(self.bundle_path, ("inference.json",), overrides)
        # Found before anything is built, so that a bundle without weights says so at once.
        weights = self._weights_file(parser)
        self.weights_hash = weights_hash(weights)
        self.device = select_device(device)
        parser["device"] = {"_target_": "medresnet3d.engines.select_device", "name": str(self.device)}
        self.network: torch.nn.Module = self._build(parser, "network_def")
        fill_network(self.network, load_state_dict(weights), weights)
        self.network.to(self.device).eval()
        self.preprocessing = self._build(parser, "preprocessing")
        precision = Precision(str(self._build(parser, "precision")) if "precision" in parser else "fp32")
        self.inferer = PrecisionInferer(self._build(parser, "inferer"), precision)
        self.answer = self._build(parser, "answer")

    def __call__(
        self, case: Case, position: Sequence[float] | NDArray[Any] | None = None, *, keep_input: bool = False
    ) -> Prediction:
        """Answer one case.

        Args:
            case: a path (file or DICOM folder), a list of paths (modalities), a :class:`~medresnet3d.io.Volume`, or an
                item of :func:`medresnet3d.data.inputs` or :func:`medresnet3d.data.items`.
            position: the point of a whole scan to classify, (3,), mm, RAS+; wins over the item's own.
            keep_input: keep what the network saw as ``input_tensor``.

        Raises:
            DataError: if the input cannot be used.
            AmbiguousInputError: if only a person can say which series or which point is meant.
        """
        started = time.perf_counter()
        item = _as_item(case)
        volumes = [self._load(source) for source in _sources(item["image"])]
        item["image"] = volumes[0] if len(volumes) == 1 else volumes
        if position is not None:
            item["position"] = [float(value) for value in position]
        with _clear_errors(self.device):
            data = self.preprocessing(item)
            output = self._run(data["image"])
            with torch.inference_mode():
                answer = self.answer({**data, "pred": output})["pred"]
        prediction = Prediction(
            case=str(item["case"]),
            task=self.task,
            labels=self.labels,
            path=_path_text(item),
            patient=_patient(item, volumes[0]),
            position=_point(data.get("position")),
            affine=volumes[0].affine,
            volume=volumes[0],
            warnings=_warnings(volumes, data),
            input_tensor=data["image"] if keep_input else None,
        )
        self._fill(prediction, answer, volumes[0])
        prediction.seconds = time.perf_counter() - started
        return prediction

    def _read_task(self) -> str:
        task = str(self.metadata.get("task", "")).lower()
        if task not in TASKS:
            raise BundleError(
                f"{self.bundle_path}: `task` in configs/metadata.json is {task!r}; infer knows {', '.join(TASKS)}."
            )
        return task

    def _weights_file(self, parser: ConfigParser) -> Path:
        """Find the weights: the file that the configuration names if it is there, else the bundle's own."""
        named = Path(str(self._build(parser, "weights"))) if "weights" in parser else None
        return named if named is not None and named.is_file() else self.bundle_path

    def _build(self, parser: ConfigParser, name: str) -> Any:
        """Build what an id of the configuration describes."""
        if name not in parser:
            raise BundleError(f"{self.bundle_path}: configs/inference.json has no id `{name}`, which infer needs.")
        try:
            return parser.get_parsed_content(name)
        except Exception as error:
            known = _known_cause(error)
            if known is not None:
                raise known from error
            raise BundleError(
                f"{self.bundle_path}: `{name}` in configs/inference.json cannot be built ({_root(error)}); "
                "check the values given with --set."
            ) from error

    def _load(self, source: Any) -> Volume:
        return source if isinstance(source, Volume) else load(source, series=self.series)

    def _run(self, image: torch.Tensor) -> MetaTensor:
        """Give the network's main output for one preprocessed image (C, i, j, k), with the image's history."""
        batch = (image.as_tensor() if isinstance(image, MetaTensor) else image).unsqueeze(0).to(self.device)
        with torch.inference_mode():
            output = main_output(self.inferer(batch, self.network))
            if not torch.isfinite(output).all():
                raise DataError(
                    "The network's output has values that are not finite; look at the input's values, or try "
                    "--set precision=fp32."
                )
        if not isinstance(image, MetaTensor):
            return MetaTensor(output[0].cpu())
        return MetaTensor(output[0].cpu(), meta=image.meta, applied_operations=image.applied_operations)

    def _fill(self, prediction: Prediction, answer: Any, volume: Volume) -> None:
        """Put the answer of the bundle's pipeline into the prediction."""
        values: NDArray[Any] = np.asarray(convert_to_numpy(answer))
        if self.task == "segmentation":
            prediction.pred = _label_map(values, volume, self.bundle_path)
            prediction.volumes_ml = structure_volumes(self.labels, prediction.pred, volume.affine)
        elif self.task == "classification":
            values = values.ravel()
            names = self.labels or tuple(str(index) for index in range(len(values)))
            if len(names) != len(values):
                raise BundleError(f"{self.bundle_path}: gives {len(values)} probabilities for {len(names)} labels.")
            prediction.probabilities = dict(zip(names, map(float, values), strict=True))
            prediction.label = names[int(values.argmax())]
        else:
            prediction.value = float(values.reshape(-1)[0])


def _as_item(case: Case) -> dict[str, Any]:
    item = dict(case) if isinstance(case, Mapping) else {"image": case}
    first = _sources(item["image"])[0]
    path = first.source.path if isinstance(first, Volume) else first
    if "case" not in item:
        item["case"] = case_ids([path])[0] if path is not None else "case"
    if path is not None:
        item.setdefault("path", str(path))
    return item


def _sources(image: Any) -> list[Any]:
    return list(image) if isinstance(image, list | tuple) else [image]


def _point(position: Any) -> tuple[float, float, float] | None:
    if position is None:
        return None
    x, y, z = (float(value) for value in position)
    return x, y, z


def _path_text(item: Mapping[str, Any]) -> str | None:
    path = item.get("path")
    return str(path[0] if isinstance(path, list) else path) if path else None


def _patient(item: Mapping[str, Any], volume: Volume) -> str | None:
    """The manifest's name of the patient; a DICOM PatientID becomes a pseudonym."""
    if item.get("patient"):
        return str(item["patient"])
    identifier = str(volume.source.datasets[0].get("PatientID", "")) if volume.source.datasets else ""
    return pseudonym(identifier) if identifier.strip() else None


def _warnings(volumes: Sequence[Volume], data: Mapping[str, Any]) -> list[str]:
    """Gather what the reader and the preprocessing noticed, each sentence once."""
    texts = [text for volume in volumes for text in volume.warnings]
    for key, value in data.items():
        if str(key).endswith("warnings"):
            texts.extend(value.splitlines() if isinstance(value, str) else value)
    return list(dict.fromkeys(texts))


def _label_names(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    labels = metadata.get("labels", {})
    if isinstance(labels, Mapping):
        return tuple(str(labels[key]) for key in sorted(labels, key=int))
    return tuple(map(str, labels))


def _label_map(values: NDArray[Any], volume: Volume, bundle: Path) -> NDArray[Any]:
    """Check that the label map lies on the input's own grid."""
    pred = values[0] if values.ndim == 4 and values.shape[0] == 1 else values
    if pred.shape != volume.shape:
        raise GeometryError(
            f"{bundle}: the answer has the shape {values.shape} instead of the scan's {volume.shape}; "
            "`answer` in configs/inference.json must bring the label map back to the input's own grid."
        )
    kind = np.uint8 if pred.size == 0 or pred.max() <= 255 else np.uint16
    return np.ascontiguousarray(pred.astype(kind))


def _known_cause(error: BaseException) -> MedResNetError | None:
    """Find the error of ours inside those that MONAI wraps around it."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, MedResNetError):
            return current
        current = current.__cause__ or current.__context__
    return None


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")


@contextmanager
def _clear_errors(device: torch.device) -> Iterator[None]:
    """Say in our own words what went wrong while a case was processed."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DataError(f"The memory of {device} is not enough for this case; try --device cpu.") from error
    except RuntimeError as error:
        known = _known_cause(error)
        if known is not None:
            raise known from error
        raise
