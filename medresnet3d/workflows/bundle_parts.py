"""What a bundle is made of once it is in memory: three steps that turn one case into an answer.

The steps are meant for three threads: :meth:`BundleParts.prepare` computes on the CPU, :meth:`BundleParts.run` uses the
network, :meth:`BundleParts.finish` computes on the CPU again. :func:`bundle_parts` builds them, for the bundles of this
package as for those that other people wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.utils import convert_to_numpy
from numpy.typing import NDArray

from medresnet3d.bundle.load import fill_network, load_config, load_state_dict, weights_hash
from medresnet3d.bundle.registry import is_own_bundle, read_file
from medresnet3d.engines import Precision
from medresnet3d.engines.inferer import main_output
from medresnet3d.errors import BundleError, DataError, GeometryError, MedResNetError
from medresnet3d.inferers import InferenceReport
from medresnet3d.io import Volume
from medresnet3d.io.detections import COLUMNS
from medresnet3d.transforms.prediction import IMAGES
from medresnet3d.workflows.inference_options import with_precision
from medresnet3d.workflows.prediction import PIXELS, structure_pixels, structure_volumes

TASKS = ("segmentation", "classification", "regression", "detection")

Item = dict[str, Any]
_CONFIGS = tuple(f"inference.{suffix}" for suffix in ("json", "yaml", "yml"))


@dataclass
class Answer:
    """What a bundle says about one case, on the grid of the input.

    Args:
        label_map: (i, j, k), uint8 or uint16; segmentation only.
        probabilities: by class name, in index order; classification only.
        label: name of the most probable class; classification only.
        value: estimate; regression only.
        volumes_ml: millilitres by structure; segmentation only.
        detections: (N, 5), columns as :data:`medresnet3d.io.detections.COLUMNS`; detection only.
        images: further images (i, j, k) by name, such as structures that overlap or a map of values; each is a file
            ``<case>_<name>`` of its own.
        details: what fits nowhere else, as plain values that JSON knows (points, boxes, tables).
        notes: what a reader must know of this answer, one sentence each.
    """

    label_map: NDArray[Any] | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    label: str | None = None
    value: float | None = None
    volumes_ml: dict[str, float] = field(default_factory=dict)
    detections: NDArray[np.float64] | None = None
    images: dict[str, NDArray[Any]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class BundleParts:
    """A bundle in memory.

    Args:
        bundle: its folder.
        network: in eval mode, on ``device``.
        preprocessing: from an item whose ``image`` is a :class:`~medresnet3d.io.Volume` or a list of them to one whose
            ``image`` is a tensor (C, i, j, k).
        inferer: called with a batch (1, C, i, j, k) and the network.
        answer: from an item with ``pred`` (K, i, j, k) to one whose ``pred`` is the answer; a classifier may say
            more under ``details``.
        task: ``"segmentation"``, ``"classification"``, ``"regression"``, ``"detection"`` or ``"conversion"`` (image
            to image).
        labels: class names in index order; for a segmentation number 0 is the background.
        device: where the network computes.
        weights_hash: SHA-256 of the weights file.
        precision: number format of the network.
        notes: what the person who runs it should know, one sentence each (parts that were replaced, for example).
        outputs: keys of the item that hold answers.
    """

    bundle: Path
    network: torch.nn.Module
    preprocessing: Callable[[Item], Item]
    inferer: Callable[..., Any]
    answer: Callable[[Item], Item]
    task: str
    labels: tuple[str, ...]
    device: torch.device
    weights_hash: str
    precision: Precision = field(default_factory=lambda: Precision("fp32"))
    notes: list[str] = field(default_factory=list)
    outputs: tuple[str, ...] = ("pred",)

    def prepare(self, item: Item) -> Item:
        """Prepare one case: ``item["image"]`` is a Volume or a list of them; whole-scan keys are carried along.

        Raises:
            DataError: if the bundle cannot use this input.
        """
        return dict(self.preprocessing(item))

    def input_tensor(self, data: Mapping[str, Any]) -> MetaTensor:
        """Give what the network will see of a prepared case, (C, i, j, k)."""
        image: MetaTensor = data["image"]
        return image

    def run(self, data: Item) -> Any:
        """Run the network on a prepared case and give its output on the CPU, for :meth:`finish`.

        Raises:
            DataError: if the output is not finite.
        """
        image = self.input_tensor(data)
        batch = (image.as_tensor() if isinstance(image, MetaTensor) else image).unsqueeze(0).to(self.device)
        with torch.inference_mode():
            output = main_output(self.inferer(batch, self.network))
            require_finite(output)
        if not isinstance(image, MetaTensor):
            return MetaTensor(output[0].cpu())
        return MetaTensor(output[0].cpu(), meta=image.meta, applied_operations=image.applied_operations)

    def report(self) -> InferenceReport | None:
        """Say how the last case was computed; ``None`` where the inferer does not say it."""
        found: InferenceReport | None = getattr(self.inferer, "report", None)
        return found

    def finish(self, data: Item, output: Any, volumes: Sequence[Volume]) -> Answer:
        """Make the answer of the network's output.

        Args:
            data: the prepared case.
            output: from :meth:`run`.
            volumes: the input; the answer lies on the grid of the first.

        Raises:
            GeometryError: if the label map does not lie on the input's grid.
            BundleError: if the answer does not fit the bundle's labels or task.
        """
        with torch.inference_mode():
            answered = self.answer({**data, "pred": output})
            values = np.asarray(convert_to_numpy(answered["pred"]))
            images = {name: np.asarray(image) for name, image in answered.get(IMAGES, {}).items()}
        if self.task == "segmentation":
            label_map = _label_map(values, volumes[0], self.bundle)
            if volumes[0].is_flat:
                return Answer(label_map, images=images, details={PIXELS: structure_pixels(self.labels, label_map)})
            measured = structure_volumes(self.labels, label_map, volumes[0].affine)
            return Answer(label_map, images=images, volumes_ml=measured)
        if self.task == "detection":
            return Answer(detections=_detections(values, self.bundle))
        if self.task == "classification":
            return self._classes(values.ravel(), answered.get("details", {}))
        return Answer(value=float(values.reshape(-1)[0]))

    def _classes(self, values: NDArray[Any], details: dict[str, Any]) -> Answer:
        names = self.labels or tuple(str(index) for index in range(len(values)))
        if len(names) != len(values):
            raise BundleError(f"{self.bundle}: gives {len(values)} probabilities for {len(names)} labels.")
        probabilities = dict(zip(names, map(float, values), strict=True))
        return Answer(probabilities=probabilities, label=names[int(values.argmax())], details=details)


def bundle_parts(
    path: Path,
    metadata: Mapping[str, Any],
    overrides: Mapping[str, Any] | Iterable[str],
    device: torch.device,
    exact: bool = False,
) -> BundleParts:
    """Build a bundle that :func:`medresnet3d.bundle.trust.require_trust` has let pass.

    Args:
        path: its folder.
        metadata: content of its ``metadata.json``.
        overrides: values of ids of its configuration, or ``id=value`` texts.
        device: where to compute.
        exact: compute in fp32 as MONAI would; the inferer of a bundle from elsewhere stays in its place.

    Raises:
        BundleError: if it is incomplete or cannot run here; the message says why.
        WeightsError: if it has no trained weights or they do not fit.
        ConfigError: for an unknown override.
    """
    if _is_ours(path):
        return _own_parts(path, metadata, load_config(path, ("inference.json",), overrides), device, exact)
    from medresnet3d.workflows.foreign_build import foreign_parts

    return foreign_parts(path, metadata, overrides, device, exact)


def _is_ours(path: Path) -> bool:
    """Whether a bundle is made for this package: it has an ``answer``, or names components of the package."""
    file = next((path / "configs" / name for name in _CONFIGS if (path / "configs" / name).is_file()), None)
    if is_own_bundle(path):
        return True
    content = read_file(file) if file is not None else None
    return isinstance(content, Mapping) and ("answer" in content or _names_ours(content))


def _names_ours(node: Any) -> bool:
    if isinstance(node, Mapping):
        target = node.get("_target_")
        ours = isinstance(target, str) and target.startswith("medresnet3d.")
        return ours or any(_names_ours(child) for child in node.values())
    return isinstance(node, list) and any(_names_ours(child) for child in node)


def _own_parts(
    path: Path, metadata: Mapping[str, Any], parser: ConfigParser, device: torch.device, exact: bool
) -> BundleParts:
    task = _read_task(path, metadata)
    # Found before anything is built, so that a bundle without weights says so at once.
    weights = _weights_file(path, parser)
    digest = weights_hash(weights)
    parser["device"] = {"_target_": "medresnet3d.engines.select_device", "name": str(device)}
    network: torch.nn.Module = _build(path, parser, "network_def")
    fill_network(network, load_state_dict(weights), weights)
    precision = Precision(str(_build(path, parser, "precision")) if "precision" in parser else "fp32")
    return BundleParts(
        bundle=path,
        network=network.to(device).eval(),
        preprocessing=_build(path, parser, "preprocessing"),
        inferer=with_precision(_build(path, parser, "inferer"), precision, exact),
        answer=_build(path, parser, "answer"),
        task=task,
        labels=label_names(metadata.get("labels", {})),
        device=device,
        weights_hash=digest,
        precision=precision,
    )


def _read_task(path: Path, metadata: Mapping[str, Any]) -> str:
    task = str(metadata.get("task", "")).lower()
    if task not in TASKS:
        raise BundleError(f"{path}: `task` in configs/metadata.json is {task!r}; infer knows {', '.join(TASKS)}.")
    return task


def _weights_file(path: Path, parser: ConfigParser) -> Path:
    """Find the weights: the file that the configuration names if it is there, else the bundle's own."""
    named = Path(str(_build(path, parser, "weights"))) if "weights" in parser else None
    return named if named is not None and named.is_file() else path


def _build(path: Path, parser: ConfigParser, name: str) -> Any:
    """Build what an id of the configuration describes."""
    if name not in parser:
        raise BundleError(f"{path}: configs/inference.json has no id `{name}`, which infer needs.")
    try:
        return parser.get_parsed_content(name)
    except Exception as error:
        known = known_cause(error)
        if known is not None:
            raise known from error
        raise BundleError(
            f"{path}: `{name}` in configs/inference.json cannot be built ({root_cause(error)}); "
            "check the values given with --set."
        ) from error


def require_finite(output: torch.Tensor) -> None:
    """Check the output of a network.

    Raises:
        DataError: if it has values that are not finite.
    """
    if not torch.isfinite(output).all():
        raise DataError(
            "The network's output has values that are not finite; look at the input's values, or try "
            "--set precision=fp32."
        )


def label_names(labels: Any) -> tuple[str, ...]:
    """Give the class names in index order, from a list or from a mapping of numbers to names."""
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


def _detections(values: NDArray[Any], bundle: Path) -> NDArray[np.float64]:
    """Check that the answer is a table of detections."""
    if values.ndim != 2 or values.shape[1] != len(COLUMNS):
        raise BundleError(
            f"{bundle}: the answer has the shape {values.shape} instead of (detections, {len(COLUMNS)}); `answer` in "
            "configs/inference.json must end with medresnet3d.transforms.detection.DetectionsFromMapd."
        )
    return values.astype(np.float64)


def known_cause(error: BaseException) -> MedResNetError | None:
    """Find the error of ours inside those that MONAI wraps around it."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, MedResNetError):
            return current
        current = current.__cause__ or current.__context__
    return None


def root_cause(error: BaseException) -> str:
    """Give the first line of the innermost error and its type."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
