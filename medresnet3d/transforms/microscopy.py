"""Cells under the microscope: HEp-2 cells in fluorescence, blood smears in colour."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, RandomizableTransform, Rotate, Transform
from monai.utils.enums import TraceKeys
from monai.utils.type_conversion import convert_to_dst_type

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.transforms.keyed import Keyed, RandKeyed
from medresnet3d.transforms.pictures import to_numpy


class BrightestChannel(Transform):
    """The brightest channel at each place: the light of a fluorescence picture, whatever colour it was stored in.

    ICPR 2012 has green cells on black and I3A grey ones; both become one grey channel.
    """

    def __call__(self, img: Any) -> Any:
        """Give (1, ...) of a picture (C, ...) in its own type, metadata kept."""
        return convert_to_dst_type(to_numpy(img).max(axis=0, keepdims=True), img)[0]


class BrightestChanneld(Keyed):
    """Dictionary version of :class:`BrightestChannel`."""

    array_class = BrightestChannel


class CellMinMax(Transform):
    """Stretch each channel of a cell's picture to 0 to 1, so that weakly and strongly lit cells look alike.

    Shen et al. 2018 (DCR-Net) normalise the contrast of each cell this way; the percentiles are an option of ours.

    Args:
        percentiles: which values become 0 and 1; (0, 100) are the smallest and the largest.

    Raises:
        ConfigError: if the percentiles are not increasing from 0 to 100.
    """

    def __init__(self, percentiles: tuple[float, float] = (0.0, 100.0)) -> None:
        if not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ConfigError(f"percentiles are {tuple(percentiles)}; give two increasing numbers from 0 to 100.")
        self.percentiles = percentiles

    def __call__(self, img: Any, mask: Any = None) -> Any:
        """Give float32 (C, ...) between 0 and 1; a channel of one value becomes 0.

        Args:
            img: (C, ...) of any type.
            mask: of the cell, (1, ...): only its pixels decide; the rest is stretched alike and cut off.
        """
        values = to_numpy(img).astype(np.float32)
        inside = np.ones(values.shape[1:], dtype=bool) if mask is None else to_numpy(mask)[0] > 0
        if not inside.any():
            raise DataError("the mask of the cell is empty; give one that marks the cell, or none.")
        out = np.zeros_like(values)
        for channel, result in zip(values, out, strict=True):
            low, high = np.percentile(channel[inside], self.percentiles)
            if high > low:
                np.clip((channel - low) / (high - low), 0, 1, out=result)
        return convert_to_dst_type(out, img, dtype=np.float32)[0]


class CellMinMaxd(Keyed):
    """Dictionary version of :class:`CellMinMax`, without a mask."""

    array_class = CellMinMax


class RotationGrid(Transform):
    """All turns of a cell in equal steps, e.g. the twenty by 18 degrees of HEp-2 systems.

    Args:
        step: degrees; 360 is a multiple of it.
        padding_mode: what comes into view at the corners: ``border``, ``zeros`` or ``reflection``.

    Raises:
        ConfigError: if 360 is no multiple of the step.
    """

    def __init__(self, step: float = 18.0, padding_mode: str = "reflection") -> None:
        turns = round(360 / step) if step > 0 else 0
        if turns < 1 or abs(turns * step - 360) > 1e-6:
            raise ConfigError(f"step is {step:g} degrees; give one of which 360 is a multiple, such as 18.")
        self.angles = tuple(float(np.deg2rad(index * step)) for index in range(turns))
        self.padding_mode = padding_mode

    def turned(self, img: torch.Tensor, index: int) -> torch.Tensor:
        """The picture (C, i, j), or (C, i, j, 1), turned by ``index`` steps, its size kept; see :meth:`inverse`."""
        if index == 0:
            return img
        angle: float | Sequence[float] = self.angles[index]
        if img.ndim == 4:
            angle = (0.0, 0.0, self.angles[index])
        return Rotate(angle, keep_size=True, mode="bilinear", padding_mode=self.padding_mode)(img)

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """Give all turns in a batch, (360 / step, C, i, j)."""
        return torch.stack([torch.as_tensor(self.turned(img, index)) for index in range(len(self.angles))])

    def inverse(self, img: MetaTensor) -> MetaTensor:
        """Turn one picture of :meth:`turned` back; what had left the frame is lost."""
        operations = img.applied_operations
        if operations and operations[-1].get("class") == "Rotate":
            turned: MetaTensor = Rotate(0.0).inverse_transform(img, img.applied_operations.pop())  # type: ignore[assignment]
            return turned
        return img


class RandRotationGrid(RandomizableTransform, InvertibleTransform):
    """One of the turns of :class:`RotationGrid`, drawn evenly; the inverse turns back.

    Args:
        prob: how often; otherwise the picture stays.
        step: see :class:`RotationGrid`.
        padding_mode: see there.
    """

    def __init__(self, prob: float = 1.0, step: float = 18.0, padding_mode: str = "reflection") -> None:
        super().__init__(prob)
        self.grid = RotationGrid(step, padding_mode)
        self.index = 0

    def randomize(self, data: Any = None) -> None:
        """Draw the turn."""
        super().randomize(None)
        self.index = int(self.R.randint(len(self.grid.angles))) if self._do_transform else 0
        self._do_transform = self.index > 0

    def __call__(self, img: torch.Tensor, randomize: bool = True) -> torch.Tensor:
        """Give the picture (C, i, j), turned."""
        if randomize:
            self.randomize()
        turned = self.grid.turned(img, self.index) if self._do_transform else torch.as_tensor(img).clone()
        if isinstance(turned, MetaTensor):
            self.push_transform(turned, replace=True)
        return turned

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Turn a picture back; what had left the frame is lost."""
        noted = self.pop_transform(data)
        if not noted[TraceKeys.DO_TRANSFORM]:
            return data
        data.applied_operations.append(noted[TraceKeys.EXTRA_INFO])
        return self.grid.inverse(data)


class RandRotationGridd(RandKeyed, InvertibleTransform):
    """Dictionary version of :class:`RandRotationGrid`."""

    array_class = RandRotationGrid

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Turn all keys back."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.transform.inverse(item[key])
        return item
