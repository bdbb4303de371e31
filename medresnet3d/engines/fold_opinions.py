"""What networks say of patients that they never saw: one training for each fold, before the one that is kept.

A second stage inside the network (a meta-decision tree, weights of a fusion) must be fitted on such opinions: a network
is right about nearly all of its own training cases, and sure of it, so that they would teach to trust whoever remembers
best.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medresnet3d.data.dataset import SeededDataset, data_loader
from medresnet3d.data.splits import assign_folds
from medresnet3d.engines.beginning import Beginning
from medresnet3d.engines.device import undistributed
from medresnet3d.engines.features import Cases, extract
from medresnet3d.engines.staged import GradientStage, Stage, StageContext
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.networks.mudern import MuDeRN


class FoldOpinions:
    """Gathers the opinions on each training case of the network that was trained without its patient.

    Args:
        dataset: training cases, with class and patient.
        transform: without randomness, in place of that of ``dataset``.
        folds: number of folds; 0: there are no opinions, and no trainings for them.
        seed: of the folds.
        batch_size: cases at a time.

    Raises:
        DataError: if there are fewer patients than folds, or a case names no class or patient.
    """

    def __init__(
        self,
        dataset: SeededDataset,
        transform: Callable[[Any], Any],
        folds: int = 3,
        seed: int = 0,
        batch_size: int = 16,
    ) -> None:
        self.dataset, self.folds, self.batch_size = dataset, folds, batch_size
        self.plain = SeededDataset(dataset.data, transform)
        self.fold_of: list[int] = []
        self._parts: dict[int, Cases] = {}
        if folds:
            patients = [str(item.get("patient", "")) for item in dataset.data]
            self.fold_of = assign_folds(
                patients, folds, classes=[int(item["label"]) for item in dataset.data], seed=seed
            )

    def learned_from(self, fold: int) -> list[int]:
        """Places in the data of the cases that the network of a fold is trained on."""
        return [case for case, own in enumerate(self.fold_of) if own != fold]

    def held_out(self, fold: int) -> list[int]:
        """Places in the data of the cases that it has an opinion on."""
        return [case for case, own in enumerate(self.fold_of) if own == fold]

    def ask(self, fold: int, network: nn.Module, opinions: Callable[[Tensor], Tensor]) -> None:
        """Keep the opinions (B, ...) of a network that was trained without a fold on its cases."""
        places = self.held_out(fold)
        part = SeededDataset([self.plain.data[case] for case in places], self.plain.transform)
        self._parts[fold] = extract(network, part, lambda images: opinions(images).flatten(1), self.batch_size)

    def gathered(self) -> tuple[Tensor, Tensor]:
        """All opinions in the order of the data, (N, ...) flattened to (N, F), and the class numbers, (N,).

        Raises:
            DataError: if a fold has not been asked.
        """
        missing = [fold for fold in range(self.folds) if fold not in self._parts]
        if missing or not self.folds:
            raise DataError(f"Fold {missing or 0} has no opinions; train its network first.")
        order = torch.tensor([case for fold in range(self.folds) for case in self.held_out(fold)]).argsort()
        parts = [self._parts[fold] for fold in range(self.folds)]
        labels = torch.tensor([label for part in parts for label in part.labels])
        return torch.cat([part.features for part in parts])[order], labels[order]


class FoldStage:
    """Train a network from the beginning without one fold, and ask it about that fold.

    Args:
        stage: the training.
        beginning: what to start from.
        opinions: gets the answers.
        fold: number of the fold.
    """

    def __init__(self, stage: GradientStage, beginning: Beginning, opinions: FoldOpinions, fold: int) -> None:
        self.name = stage.name
        self.stage, self.beginning, self.opinions, self.fold = stage, beginning, opinions, fold

    def run(self, context: StageContext) -> None:
        """Train, go on with it, or load what is finished; then ask.

        Raises:
            TrainingInterrupted: after Ctrl-C, when the state is saved.
        """
        self.beginning.restore()
        self.stage.run(context)
        network = _mudern(undistributed(self.stage.network))
        self.opinions.ask(self.fold, network, network.opinions)


class StartAgain:
    """Put network, optimiser, schedule and loss back to the beginning, for the training that is kept."""

    name = "start_again"

    def __init__(self, beginning: Beginning) -> None:
        self.beginning = beginning

    def run(self, context: StageContext) -> None:
        """Restore the beginning."""
        self.beginning.restore()


def fold_stages(
    network: nn.Module,
    opinions: FoldOpinions,
    optimizer: torch.optim.Optimizer,
    loss_function: Callable[..., Tensor],
    lr_scheduler: Any = None,
    *,
    batch_size: int = 1,
    num_workers: int = 0,
    seed: int = 0,
    max_epochs: int = 1,
    **options: Any,
) -> list[Stage]:
    """The stages before the main one, for ``before`` of :class:`medresnet3d.engines.staged.StagedTrainer`.

    One training for each fold, each from the same beginning and for as many steps as the main stage, whose optimiser,
    schedule and loss they use. The whole takes as long as ``folds + 1`` ordinary trainings. Restartable like all
    stages.

    Args:
        network: a :class:`medresnet3d.networks.mudern.MuDeRN`.
        opinions: gets the answers; with no folds there are no stages.
        optimizer: of the main stage.
        loss_function: of the main stage.
        lr_scheduler: of the main stage.
        batch_size: as for :func:`medresnet3d.data.data_loader`, and so the next two.
        num_workers: worker processes.
        seed: of the order of the samples.
        max_epochs: of each stage.
        **options: further arguments of :class:`medresnet3d.engines.staged.GradientStage`.
    """
    if not opinions.folds:
        return []
    beginning = Beginning(undistributed(network), (optimizer, lr_scheduler, loss_function))

    def without(fold: int) -> FoldStage:
        part = opinions.dataset.only(opinions.learned_from(fold))
        loader = data_loader(part, batch_size, True, seed, num_workers)
        stage = GradientStage(
            f"without_fold_{fold}",
            network,
            loader,
            optimizer,
            loss_function,
            max_epochs,
            lr_scheduler=lr_scheduler,
            **options,
        )
        return FoldStage(stage, beginning, opinions, fold)

    return [*(without(fold) for fold in range(opinions.folds)), StartAgain(beginning)]


class FitMetaTree:
    """Fit the meta-decision tree of a :class:`~medresnet3d.networks.mudern.MuDeRN`; for ``FitStage``.

    Args:
        opinions: of networks that did not see the patient; with no folds nothing is fitted, and magnifications are
            averaged.
        min_leaf: fewest cases in a leaf.
    """

    def __init__(self, opinions: FoldOpinions, min_leaf: int = 5) -> None:
        self.opinions, self.min_leaf = opinions, min_leaf

    def __call__(self, network: nn.Module, folder: Path) -> None:
        """Fit the tree.

        Raises:
            ConfigError: if the network has no such tree.
            DataError: if a fold has not been asked.
        """
        mudern = _mudern(network)
        if not self.opinions.folds:
            return
        values, labels = self.opinions.gathered()
        mudern.tree.fit(values.unflatten(1, (mudern.magnifications, -1)), labels, self.min_leaf)
        mudern.put("fitted_tree", True)


def _mudern(network: nn.Module) -> MuDeRN:
    if not isinstance(network, MuDeRN):
        raise ConfigError(f"{type(network).__name__} has no meta-decision tree; use build_mudern.")
    return network
