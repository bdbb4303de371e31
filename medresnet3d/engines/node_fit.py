"""Choose the node that a network is fine-tuned from, and say what is trained then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from medresnet3d.data.dataset import SeededDataset
from medresnet3d.engines.features import stacked
from medresnet3d.engines.layer_probing import probe_layers, trainable_after
from medresnet3d.errors import ConfigError
from medresnet3d.networks.fine_tuned import FineTunedClassifier


class FitNode:
    """Set the node of a :class:`~medresnet3d.networks.fine_tuned.FineTunedClassifier`; for ``FitStage``.

    It is the layer whose features a linear support vector machine classifies with the highest F1, patients held out.
    The scores of all layers are written to ``layers.csv`` in the folder of the stage.

    Args:
        dataset: training cases, with class and patient.
        transform: without randomness, in place of that of ``dataset``.
        cost: C of the machine, the same for every layer.
        folds: of the cross-validation.
        seed: of the folds.
        batch_size: images at a time.
    """

    def __init__(
        self,
        dataset: Any,
        transform: Callable[[Any], Any],
        cost: float = 1.0,
        folds: int = 5,
        seed: int = 0,
        batch_size: int = 16,
    ) -> None:
        self.dataset = SeededDataset(dataset.data, transform)
        self.options: dict[str, Any] = {"cost": cost, "folds": folds, "seed": seed, "batch_size": batch_size}

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Score the layers and set the node.

        Raises:
            ConfigError: if the network has no node.
            DataError: if a case names no class or patient, or there are fewer patients than folds.
        """
        own = _fine_tuned(network)
        probe = probe_layers(own.network, self.dataset, own.layers, **self.options)
        probe.write(folder / "layers.csv")
        own.node.fill_(own.layers.index(probe.best))


class AfterNode:
    """What is trained of a network once its node is set: ``trainable`` of ``StagedTrainer``.

    Args:
        dataset: of images that the network takes.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, network: nn.Module) -> list[str]:
        """Give the patterns of the parameters behind the node, see :func:`trainable_after`.

        Raises:
            ConfigError: if the network has no node, or it is not set.
        """
        own = _fine_tuned(network)
        if own.node_layer is None:
            raise ConfigError("The network has no node yet; put a FitStage with FitNode before this one.")
        image = stacked(self.dataset, [0]).to(own.node.device)
        return trainable_after(own, own.node_layer, image)


def _fine_tuned(network: nn.Module) -> FineTunedClassifier:
    if not isinstance(network, FineTunedClassifier):
        raise ConfigError(f"{type(network).__name__} has no node to fine-tune from; use build_fine_tuned.")
    return network
