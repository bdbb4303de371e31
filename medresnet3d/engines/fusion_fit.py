"""Weighs the members of an ensemble by what they have right on validation cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medresnet3d.engines.features import extract
from medresnet3d.errors import ConfigError
from medresnet3d.networks.described import DescribedClassifier
from medresnet3d.networks.ensembles import Ensemble, member_accuracies


class FitFusionWeights:
    """Set the weights of an :class:`~medresnet3d.networks.ensembles.Ensemble`; for ``FitStage``.

    They become the members' accuracies.

    Args:
        dataset: validation cases without random transforms: no member was trained on them, and the ensemble is not
            measured on them.
        batch_size: images at a time.
    """

    def __init__(self, dataset: Any, batch_size: int = 16) -> None:
        self.dataset, self.batch_size = dataset, batch_size

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Measure the members.

        Raises:
            ConfigError: if the network is no ensemble.
            DataError: if a case has no class or patient, or no member has any case right.
        """
        ensemble: Any = network.classifier if isinstance(network, DescribedClassifier) else network
        if not isinstance(ensemble, Ensemble):
            raise ConfigError(f"{type(ensemble).__name__} has no members to weigh; use build_ensemble.")

        def opinions(images: Tensor) -> Tensor:
            pictures = network.seen(images) if isinstance(network, DescribedClassifier) else images
            return ensemble.opinions(pictures).transpose(0, 1).flatten(1)

        cases = extract(network, self.dataset, opinions, self.batch_size)
        members = cases.features.unflatten(1, (len(ensemble.members), -1)).transpose(0, 1)
        ensemble.put("weights", member_accuracies(members, torch.tensor(cases.labels)))
