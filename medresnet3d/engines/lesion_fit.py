"""Stages of a :class:`~medresnet3d.networks.lesion_informed.LesionInformedClassifier`: find lesions, weigh them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from medresnet3d.data import SeededDataset, data_loader, items
from medresnet3d.engines.device import undistributed
from medresnet3d.engines.features import extract
from medresnet3d.engines.staged import FitStage, GradientStage, Stage
from medresnet3d.errors import ConfigError, WeightsError
from medresnet3d.losses import build_loss
from medresnet3d.networks.lesion_informed import LesionInformedClassifier
from medresnet3d.optimizers import build_lr_scheduler, build_optimizer
from medresnet3d.transforms.fundus_lesions import lesion_training


def finder_stages(
    network: nn.Module,
    data: str | None = None,
    weights: str | None = None,
    *,
    values: Sequence[Sequence[int]] = (),
    size: int = 448,
    tile: int = 160,
    tiles_per_photograph: int = 4,
    augmentation: str = "medium",
    epochs: int = 60,
    batch_size: int = 8,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.05,
    seed: int = 0,
) -> list[Stage]:
    """The stage in which the finder learns lesions, or takes over what another finder has learnt.

    Args:
        network: of the run; without a finder there is no stage.
        data: manifest of a segmentation: pictures with label maps of their lesions. All of its training section is
            learned from.
        weights: state dict of a network with the same finder, where there is no ``data``.
        values: for each kind of lesion its numbers in the label maps.
        size: pixels along each edge of a whole picture, as the finder sees it.
        tile: pixels along each edge of the tiles that it learns from.
        tiles_per_photograph: in each epoch.
        augmentation: see :func:`medresnet3d.transforms.fundus_lesions.lesion_training`.
        epochs: of this stage.
        batch_size: tiles at a time.
        learning_rate: the largest, in one cycle of AdamW.
        weight_decay: of AdamW.
        seed: of the tiles.

    Raises:
        ConfigError: if there is neither ``data`` nor ``weights``, or another number of kinds than the finder has.
        DataError: if the manifest cannot be used.
    """
    whole = undistributed(network)
    if not isinstance(whole, LesionInformedClassifier):
        return []
    kinds = whole.mean.numel() // 2
    if len(values) != kinds:
        raise ConfigError(f"lesion_values names {len(values)} kinds of lesions, but lesions is {kinds}; make them one.")
    if data is None:
        return [FitStage("finder", TakeFinder(weights))]
    listed = items(data, "training", validation_fraction=0.0)
    transform = lesion_training(size, tile, augmentation, values)
    dataset = SeededDataset(listed, transform, cache="memory", seed=seed, repeats=tiles_per_photograph)
    loader = data_loader(dataset, batch_size=batch_size, shuffle=True, seed=seed)
    steps = epochs * len(loader)
    optimizer = build_optimizer(whole.finder, "adamw", learning_rate, weight_decay)
    fading: dict[str, Any] = {"auxiliary_steps": steps, "auxiliary_start": 0.3, "auxiliary_end": 0.03}
    loss = build_loss("dice_ce", sigmoid=True, batch=True, class_weights=[3.0] * kinds, **fading)
    schedule = build_lr_scheduler(optimizer, "one_cycle", steps=steps, pct_start=0.05)
    options: dict[str, Any] = {"lr_unit": "iteration", "average_weights": 0.98, "gradient_clip": 5.0}
    return [GradientStage("finder", whole.finder, loader, optimizer, loss, epochs, lr_scheduler=schedule, **options)]


class TakeFinder:
    """Take the finder of another network; for ``FitStage``.

    Args:
        weights: state dict of that network.
    """

    def __init__(self, weights: str | None) -> None:
        self.weights = weights

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Copy the finder's tensors.

        Raises:
            ConfigError: if no weights are given.
            WeightsError: if the file is missing or has no such finder.
        """
        if self.weights is None:
            raise ConfigError("Nobody teaches the finder: give lesion_data or lesion_weights, or set lesions=0.")
        if not Path(self.weights).is_file():
            raise WeightsError(f"{self.weights}: no such file; lesion_weights names a model.pt with a finder.")
        state = torch.load(self.weights, map_location="cpu", weights_only=True)
        own = {name.removeprefix("finder."): state[name] for name in state if name.startswith("finder.")}
        try:
            network.finder.load_state_dict(own)  # type: ignore[union-attr]
        except RuntimeError as error:
            raise WeightsError(f"{self.weights}: has no finder of this shape; set lesion_data instead.") from error


class FitLesionEvidence:
    """Fit what the load of lesions says for each class, by logistic regression; for ``FitStage``.

    Classes count alike, however frequent they are.

    Args:
        dataset: training pictures.
        transform: without randomness, as the finder sees them.
        cost: C of the regression on standardised loads.
        batch_size: pictures at a time.
    """

    def __init__(
        self, dataset: SeededDataset, transform: Callable[[Any], Any], cost: float = 1.0, batch_size: int = 2
    ) -> None:
        self.dataset = SeededDataset(dataset.data, transform, cache="none")
        self.cost, self.batch_size = cost, batch_size

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Fit; a network without a finder is left as it is.

        Raises:
            DataError: if a picture names no class or patient.
        """
        if not isinstance(network, LesionInformedClassifier):
            return
        cases = extract(network, self.dataset, network.loads, self.batch_size)
        scaler = StandardScaler().fit(cases.features.double().numpy())
        network.put("mean", scaler.mean_)
        network.put("deviation", scaler.scale_)
        loads = scaler.transform(cases.features.double().numpy())
        fitted = LogisticRegression(C=self.cost, class_weight="balanced", max_iter=5000).fit(loads, cases.labels)
        weight = np.zeros(network.weight.shape)
        bias = np.full(len(weight), fitted.intercept_.min())
        two = len(fitted.classes_) == 2  # of two classes scikit-learn tells what speaks for the second
        weight[fitted.classes_] = np.stack([0 * fitted.coef_[0], fitted.coef_[0]]) if two else fitted.coef_
        bias[fitted.classes_] = [0.0, fitted.intercept_[0]] if two else fitted.intercept_
        network.put("weight", weight)
        network.put("bias", bias)
