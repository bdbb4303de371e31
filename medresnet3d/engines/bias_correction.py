"""After a training: fit the correction of a regression's bias on the validation cases, and keep it with the weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from monai.utils import CommonKeys
from torch import nn

from medresnet3d.engines.checkpoint import load_checkpoint, save_checkpoint
from medresnet3d.engines.device import rank, undistributed
from medresnet3d.engines.precision import Precision
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.regressor import NumberRegressor


class BiasCorrection:
    """Fits :meth:`medresnet3d.networks.regressor.NumberRegressor.fit_correction` once a run has ended.

    In ``train.json`` it is the second expression of ``run``, after ``$@train#trainer.run()``, when the network has the
    weights of the best validation. Slope and intercept are written into ``checkpoints/best.pt``. What cannot be
    corrected is left as it is, with a warning.

    Args:
        network: on its device, perhaps wrapped for distribution.
        loader: of the validation cases; with several processes each has its share.
        output_dir: the run's folder.
        device: of the network.
        precision: number format of the network.
        enabled: do nothing if false.
    """

    def __init__(
        self,
        network: nn.Module,
        loader: Iterable[Any],
        output_dir: str | os.PathLike[str],
        device: torch.device,
        precision: str = "fp32",
        enabled: bool = True,
    ) -> None:
        plain = undistributed(network)
        if not isinstance(plain, NumberRegressor):
            raise ConfigError(
                f"A correction of bias needs a network of `build_regressor`, not {type(plain).__name__}; "
                "set `bias_correction` to false."
            )
        self.network = plain
        self.loader = loader
        self.checkpoint = Path(output_dir) / "checkpoints" / "best.pt"
        self.device = device
        self.precision = Precision(precision)
        self.enabled = enabled

    def run(self) -> None:
        """Fit and save; every process of a run calls this."""
        if not self.enabled:
            return
        self.network.reset_correction()
        pairs = self._gather(self._estimates())
        try:
            self.network.fit_correction(*torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).T)
        except DataError as error:
            warnings.warn(f"The bias was not corrected: {error}", stacklevel=2)
            return
        if rank() == 0 and self.checkpoint.is_file():
            state = load_checkpoint(self.checkpoint)
            state["network"] |= {name: getattr(self.network, name).cpu() for name in ("slope", "intercept")}
            save_checkpoint(state, self.checkpoint)

    def _estimates(self) -> list[tuple[float, float]]:
        """Estimate and truth of this process's cases."""
        pairs: list[tuple[float, float]] = []
        self.network.eval()
        with torch.inference_mode(), self.precision.active(self.device):
            for batch in self.loader:
                estimate = self.network(torch.as_tensor(batch[CommonKeys.IMAGE]).to(self.device)).float()
                truth = torch.as_tensor(batch[CommonKeys.LABEL])
                pairs += zip(estimate.flatten().tolist(), truth.flatten().tolist(), strict=True)
        return pairs

    @staticmethod
    def _gather(own: list[tuple[float, float]]) -> list[tuple[float, float]]:
        """The pairs of all processes."""
        if not dist.is_initialized():
            return own
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, own)
        return [pair for pairs in everyone for pair in pairs]
