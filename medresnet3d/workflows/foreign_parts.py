"""Bundles that other people wrote, in the three steps of :class:`~medresnet3d.workflows.bundle_parts.BundleParts`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor, list_data_collate
from monai.engines.utils import default_prepare_batch
from monai.inferers import SlidingWindowInferer as MonaiSlidingWindowInferer
from monai.transforms import Activationsd, AsDiscreted, Compose

from medresnet3d.engines.inferer import to_float
from medresnet3d.errors import BundleError, DataError
from medresnet3d.inferers import InferenceReport, SlidingWindowInferer
from medresnet3d.inferers.memory import available_bytes
from medresnet3d.io import Volume
from medresnet3d.workflows.bundle_parts import Answer, BundleParts, Item
from medresnet3d.workflows.foreign_compact import NOTE, label_inferer, split_argmax
from medresnet3d.workflows.foreign_errors import told_in_words
from medresnet3d.workflows.foreign_images import as_compose, assign, share_inversion, steps, without_savers
from medresnet3d.workflows.foreign_labels import Meaning, read_meaning
from medresnet3d.workflows.foreign_outputs import make_answer

SLICES = "slices"
COPIES = 4  # of the values of all classes that a postprocessing keeps at once
_SHARED_ARGUMENTS = (
    *("roi_size", "sw_batch_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval"),
    *("sw_device", "device", "progress"),
)


@dataclass(frozen=True)
class Compact:
    """A label map in the place of the values of all classes.

    Args:
        labels: (1, i, j, k).
    """

    labels: Any


class Workspace(tempfile.TemporaryDirectory[str]):
    """A folder that is removed with the last object that knows it; copies of such an object share it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Workspace:
        """Give this folder itself."""
        return self


@dataclass
class ForeignParts(BundleParts):
    """A bundle from elsewhere in memory.

    Args:
        metadata: content of its ``metadata.json``.
        meaning: what its output stands for.
        image_keys: the keys that its preprocessing loads images of.
        batch: its ``prepare_batch``.
        autocast: let a GPU compute in mixed precision, as the bundle asks.
        workspace: folder for whatever it writes by itself.
        compact: an inferer and a postprocessing for cases whose values would not fit into memory.
        exact: whether its own inferer computes.
    """

    metadata: Mapping[str, Any] = field(default_factory=dict)
    meaning: Meaning = field(default_factory=lambda: read_meaning({}))
    image_keys: tuple[str, ...] = ("image",)
    batch: Callable[..., Any] = default_prepare_batch
    autocast: bool = False
    workspace: Workspace | None = None
    compact: tuple[SlidingWindowInferer, Compose] | None = None
    exact: bool = False

    def take_over(self, exact: bool) -> None:
        """Take the results in the place of files, and compute with the package's own inferer unless ``exact``."""
        self.exact = exact
        answer = as_compose(self.answer)
        self.outputs = without_savers(answer) or ("pred",)
        share_inversion(as_compose(self.preprocessing), answer)
        if self.meaning.task == "classification":
            answer.transforms = tuple(one for one in steps(answer) if not isinstance(one, AsDiscreted))
        self.answer = answer
        if exact:
            return
        classes = any(isinstance(one, Activationsd | AsDiscreted) for one in steps(answer))
        self.inferer = faster(self.inferer, skip_empty=classes)
        if not isinstance(self.inferer, SlidingWindowInferer):
            return
        self.autocast = False  # it chooses the number format itself
        split = split_argmax(answer)
        if split is not None and split[1]:
            self.inferer, self.answer = label_inferer(self.inferer), split[0]
        elif split is not None:
            self.compact = label_inferer(self.inferer), split[0]

    def report(self) -> InferenceReport | None:
        """Say how the last case was computed; with ``exact``, that it was by the bundle's own inferer."""
        if not self.exact:
            return super().report()
        precision = "fp16" if self.autocast else "fp32"
        return InferenceReport("exact", precision, reason=f"the bundle's own {type(self.inferer).__name__}")

    def _is_too_large(self, image: MetaTensor) -> bool:
        """Whether the values of all classes, in the several copies that are made of them, would not fit into memory."""
        values = len(self.meaning.labels) * max(image[0].numel(), int(np.prod(image.meta["spatial_shape"])))
        return 4 * COPIES * values > available_bytes(torch.device("cpu"))

    @property
    def name(self) -> str:
        """The bundle's name, for messages."""
        return str(self.metadata.get("name") or self.bundle.name)

    def prepare(self, item: Item) -> Item:
        """Prepare one case; a volume for a network of slices becomes one item a slice under ``slices``."""
        volumes = item["image"] if isinstance(item["image"], list) else [item["image"]]
        if self.meaning.spatial_dims == 2 and volumes[0].array.shape[2] > 1:
            self._refuse_slices(volumes[0])
            return {**item, SLICES: [self._prepare(item, one) for one in _slices(volumes)]}
        return self._prepare(item, volumes)

    def _refuse_slices(self, volume: Volume) -> None:
        if self.meaning.task != "segmentation":
            raise DataError(
                f"{volume.source.name}: {self.name} takes two-dimensional images, but this is a volume of "
                f"{volume.array.shape[2]} slices; give it the slice that is meant."
            )

    def _prepare(self, item: Item, volumes: Sequence[Volume]) -> Item:
        fed = {key: value for key, value in item.items() if key != "image"}
        fed |= assign(self.image_keys, volumes, self.name)
        with told_in_words(self.bundle, self.metadata, "its preprocessing"):
            data = self.preprocessing(fed)
        if isinstance(data, list):
            raise BundleError(f"{self.bundle}: its preprocessing makes several items of one case, as for training.")
        return dict(data)

    def input_tensor(self, data: Mapping[str, Any]) -> MetaTensor:
        """Give what the network will see of a prepared case, (C, i, j[, k]); of slices the middle one."""
        if SLICES in data:
            return self.input_tensor(data[SLICES][len(data[SLICES]) // 2])
        key = next((key for key in ("image", *self.image_keys) if isinstance(data.get(key), torch.Tensor)), None)
        if key is None:
            raise BundleError(f"{self.bundle}: its preprocessing leaves no image (of {', '.join(self.image_keys)}).")
        image: MetaTensor = data[key]
        return image

    def run(self, data: Item) -> Any:
        """Run the network as the bundle's evaluator would and give its outputs on the CPU, in their structure."""
        if SLICES in data:
            return [self.run(one) for one in data[SLICES]]
        image = self.input_tensor(data)
        inputs, args, kwargs = self._batch(data, image)
        with self._computing(), torch.inference_mode():
            if self.compact is not None and isinstance(image, MetaTensor) and self._is_too_large(image):
                labels = self.compact[0](inputs, self.network, *args, **kwargs)
                self.inferer.report = self.compact[0].report  # type: ignore[attr-defined]
                return Compact(_single(labels, image))
            output = to_float_outputs(self.inferer(inputs, self.network, *args, **kwargs))
        return _single(output, image)

    def _batch(self, data: Item, image: torch.Tensor) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """Give the batch of one with whatever else the network is called with."""
        if self.batch is default_prepare_batch:
            return image.unsqueeze(0).to(self.device), (), {}
        tensors = {key: value for key, value in data.items() if not isinstance(value, Volume)}
        with told_in_words(self.bundle, self.metadata, "its prepare_batch"):
            made = self.batch(list_data_collate([tensors]), self.device, False)
        return (made[0], (), {}) if len(made) == 2 else (made[0], tuple(made[2]), dict(made[3]))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with told_in_words(self.bundle, self.metadata, "its network"):
            try:
                with torch.autocast(self.device.type, enabled=self.autocast):
                    yield
            except torch.OutOfMemoryError as error:
                raise DataError(
                    f"The memory of {self.device} is not enough for this case; try --device cpu."
                ) from error

    def finish(self, data: Item, output: Any, volumes: Sequence[Volume]) -> Answer:
        """Postprocess as the bundle does and bring its outputs to the grid of the first volume."""
        if SLICES in data:
            answers = [
                self._finish(one, out, part[0])
                for one, out, part in zip(data[SLICES], output, _slices(volumes), strict=True)
            ]
            return _stack(answers)
        return self._finish(data, output, volumes[0])

    def _finish(self, data: Item, output: Any, volume: Volume) -> Answer:
        with told_in_words(self.bundle, self.metadata, "its postprocessing"), torch.inference_mode():
            done = self._postprocessed(data, output)
            found = {key: done[key] for key in self.outputs if key in done} or {"pred": done["pred"]}
            answer = make_answer(found, volume, self.meaning, self.name)
        if isinstance(output, Compact):
            answer.notes.append(NOTE)
        return answer

    def _postprocessed(self, data: Item, output: Any) -> Mapping[str, Any]:
        if isinstance(output, Compact) and self.compact is not None:
            return self.compact[1]({**data, "pred": output.labels})
        return self.answer({**data, "pred": output})


def faster(inferer: Any, skip_empty: bool = False) -> Any:
    """Put the package's sliding window in the place of MONAI's own, with the same windows.

    Any other inferer, a subclass too, is kept, and so is one that hands coordinates to the network.

    Args:
        inferer: the bundle's own.
        skip_empty: leave out the windows with nothing but background; no class is answered there.
    """
    if type(inferer) is not MonaiSlidingWindowInferer or inferer.with_coord:
        return inferer
    arguments = {name: getattr(inferer, name) for name in _SHARED_ARGUMENTS}
    return SlidingWindowInferer(**arguments, strategy="windows", skip_empty=skip_empty, empty_answer=None)


def to_float_outputs(output: Any) -> Any:
    """Give a network's outputs in fp32, whatever their structure."""
    if isinstance(output, Mapping):
        return {str(name): to_float_outputs(value) for name, value in output.items()}
    if isinstance(output, list | tuple):
        return [to_float_outputs(value) for value in output]
    return to_float(output) if isinstance(output, torch.Tensor) else output


def _single(output: Any, image: torch.Tensor) -> Any:
    """Take the one case out of a batch, on the CPU, with the history of the image it was computed from."""
    if isinstance(output, Mapping):
        return {name: _single(value, image) for name, value in output.items()}
    if isinstance(output, list):
        return [_single(value, image) for value in output]
    if not isinstance(output, torch.Tensor):
        return output
    tensor = (output.as_tensor() if isinstance(output, MetaTensor) else output)[0].cpu()
    if not isinstance(image, MetaTensor):
        return tensor
    return MetaTensor(tensor, meta=dict(image.meta), applied_operations=list(image.applied_operations))


def _slices(volumes: Sequence[Volume]) -> Iterator[list[Volume]]:
    """Yield the volumes slice by slice along k, each slice at its place."""
    for k in range(volumes[0].array.shape[2]):
        shift = np.eye(4)
        shift[2, 3] = k
        yield [replace(one, array=one.array[:, :, k : k + 1], affine=one.affine @ shift) for one in volumes]


def _stack(answers: Sequence[Answer]) -> Answer:
    """Put the answers for slices together."""
    stacked = Answer(notes=list(dict.fromkeys(note for answer in answers for note in answer.notes)))
    maps = [answer.label_map for answer in answers if answer.label_map is not None]
    if len(maps) == len(answers):
        stacked.label_map = np.concatenate(maps, axis=2)
    for answer in answers:
        for name, volume in answer.volumes_ml.items():
            stacked.volumes_ml[name] = stacked.volumes_ml.get(name, 0.0) + volume
    for name in dict.fromkeys(name for answer in answers for name in answer.images):
        shape = next(answer.images[name] for answer in answers if name in answer.images)
        stacked.images[name] = np.concatenate(
            [answer.images.get(name, np.zeros_like(shape)) for answer in answers], axis=2
        )
    return stacked
