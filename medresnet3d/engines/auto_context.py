"""Auto-context: a second net learns from the images and from what first nets say of patients that they never saw.

Papers: Z. Tu, X. Bai. Auto-context and its application to high-level vision tasks and 3D brain image segmentation. IEEE
TPAMI 32 (2010) 1744-1757; H. Chen et al. VoxResNet. NeuroImage 170 (2018) 446-455.

A first net is surer of its training patients than of any other, so its maps of them would teach the second net to trust
it too much. Therefore the training patients are divided into folds, a first net is trained without each of them, and a
patient's maps come from the one that did not see it. They are computed for each patch as it was drawn, so that
augmentation acts on image and maps alike and no map lies on disk. In inference they come from the first net that was
trained on all patients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import default_prepare_batch
from torch import Tensor, nn

from medresnet3d.data.dataset import SeededDataset, data_loader
from medresnet3d.data.splits import assign_folds
from medresnet3d.engines.beginning import Beginning
from medresnet3d.engines.device import undistributed
from medresnet3d.engines.inferer import main_output
from medresnet3d.engines.precision import Precision
from medresnet3d.engines.staged import GradientStage, Stage, StageContext
from medresnet3d.errors import DataError


class OutOfFoldMaps:
    """Appends to the images of a batch the probability maps of first nets that never saw their patients.

    It is the ``prepare_batch`` of the second net's training; the batch names its ``patient``.

    Args:
        dataset: the training data; its items name their patients.
        folds: number of folds.
        seed: of the folds.
        precision: number format of the first nets.
        enabled: without auto-context, batches stay as they are.

    Raises:
        DataError: if an item names no patient, or there are fewer patients than folds.
    """

    def __init__(
        self, dataset: SeededDataset, folds: int = 3, seed: int = 0, precision: str = "auto", enabled: bool = True
    ) -> None:
        self.folds, self.precision, self.enabled = folds, Precision(precision), enabled
        self.nets: dict[int, nn.Module] = {}
        self._fold_of: dict[str, int] = {}
        if enabled:
            patients = [_patient(item) for item in dataset.data]
            self._fold_of = dict(zip(patients, assign_folds(patients, folds, seed=seed), strict=True))
            self._patients = patients

    def cases_without(self, fold: int) -> list[int]:
        """Places in the data of the cases whose patients are not in a fold."""
        return [case for case, patient in enumerate(self._patients) if self._fold_of[patient] != fold]

    def keep(self, fold: int, network: nn.Module) -> None:
        """Keep a copy of the first net that was trained without a fold."""
        self.nets[fold] = deepcopy(network).eval().requires_grad_(False)

    def __call__(
        self, batch: Mapping[str, Any], device: Any = None, non_blocking: bool = False, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Give images (B, M + K, ...) and labels of a batch, on the device."""
        prepared: Any = default_prepare_batch(batch, device, non_blocking, **options)  # type: ignore[arg-type]
        image, label = prepared
        if not self.enabled:
            return image, label
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        return torch.cat([plain, self.maps(plain, batch["patient"])], 1), label

    @torch.no_grad()
    def maps(self, images: Tensor, patients: Sequence[str]) -> Tensor:
        """Probability maps (B, K, ...) of images (B, M, ...), each by the net that did not see its patient.

        Raises:
            DataError: for a patient that is not among the training data.
        """
        unknown = sorted({str(patient) for patient in patients} - self._fold_of.keys())
        if unknown:
            raise DataError(f"{unknown[0]} is no patient of the training data, so no first net was trained without it.")
        return torch.cat([self._map(image[None], str(who)) for image, who in zip(images, patients, strict=True)])

    def _map(self, image: Tensor, patient: str) -> Tensor:
        with self.precision.active(image.device):
            logits = main_output(self.nets[self._fold_of[patient]](image))
        return torch.softmax(logits.float(), dim=1)


def _patient(item: Mapping[str, Any]) -> str:
    if not item.get("patient"):
        raise DataError(
            f"{item.get('case', item['image'])}: there is no `patient`, by which auto-context splits the data; "
            "name the patient of every entry of the manifest."
        )
    return str(item["patient"])


class FirstNetStage:
    """Train the first net of a pair from the beginning, with or without the patients of one fold.

    Args:
        stage: the training; its network is the pair.
        beginning: what to start from.
        done: called with the pair afterwards.
    """

    def __init__(
        self, stage: GradientStage, beginning: Beginning, done: Callable[[Any], None] = lambda pair: None
    ) -> None:
        self.name = stage.name
        self.stage, self.beginning, self.done = stage, beginning, done

    def run(self, context: StageContext) -> None:
        """Train, go on with it, or load what is finished.

        Raises:
            TrainingInterrupted: after Ctrl-C, when the state is saved.
        """
        pair: Any = undistributed(self.stage.network)
        self.beginning.restore()
        pair.passes = 1
        try:
            self.stage.run(context)
        finally:
            pair.passes = 2
        self.done(pair)


class SecondNetStart:
    """Let the second net begin as the first, with optimiser, schedule and loss as they were at the beginning."""

    name = "second_start"

    def __init__(self, network: nn.Module, beginning: Beginning) -> None:
        self.network, self.beginning = network, beginning

    def run(self, context: StageContext) -> None:
        """Prepare the main stage."""
        pair: Any = undistributed(self.network)
        self.beginning.restore(network=False)
        pair.start_second()


def auto_context_stages(
    network: nn.Module,
    dataset: SeededDataset,
    maps: OutOfFoldMaps,
    optimizer: torch.optim.Optimizer,
    loss_function: Callable[..., Tensor],
    lr_scheduler: Any = None,
    *,
    batch_size: int = 1,
    num_workers: int = 0,
    seed: int = 0,
    max_epochs: int = 1,
    validator: Any = None,
    interval: int = 1,
    **options: Any,
) -> list[Stage]:
    """The stages before that of the second net, for ``before`` of :class:`medresnet3d.engines.staged.StagedTrainer`.

    One first net for each fold, without its patients, then one on all patients (validated); each from the same
    beginning and for as many steps as the main stage, whose optimiser, schedule and loss they use. Restartable like all
    stages. The whole takes as long as ``folds + 2`` ordinary trainings.

    Args:
        network: an :class:`medresnet3d.networks.voxresnet.AutoContextVoxResNet`.
        dataset: the training data.
        maps: gets the first nets; without auto-context there are no stages.
        optimizer: of the main stage, over all parameters.
        loss_function: of the main stage.
        lr_scheduler: of the main stage.
        batch_size: as for :func:`medresnet3d.data.data_loader`, and so the next two.
        num_workers: worker processes.
        seed: of the order of the samples.
        max_epochs: of each stage.
        validator: of the first net that is trained on all patients.
        interval: of its validation.
        **options: further arguments of :class:`medresnet3d.engines.staged.GradientStage`.
    """
    if not maps.enabled:
        return []
    beginning = Beginning(undistributed(network), (optimizer, lr_scheduler, loss_function))

    def stage(name: str, data: SeededDataset, **more: Any) -> GradientStage:
        loader = data_loader(data, batch_size, True, seed, num_workers)
        return GradientStage(
            name,
            network,
            loader,
            optimizer,
            loss_function,
            max_epochs,
            trainable="first",
            lr_scheduler=lr_scheduler,
            **options,
            **more,
        )

    def without(fold: int) -> FirstNetStage:
        part = stage(f"without_fold_{fold}", dataset.only(maps.cases_without(fold)))
        return FirstNetStage(part, beginning, lambda pair: maps.keep(fold, pair.first))

    everyone = FirstNetStage(stage("first", dataset, validator=validator, interval=interval), beginning)
    return [*(without(fold) for fold in range(maps.folds)), everyone, SecondNetStart(network, beginning)]
