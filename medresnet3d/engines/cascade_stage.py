"""The stage that trains the second network of a cascade, on crops where a first network found something out of fold.

A finder that has learnt from an image finds the right place in it, and finds nothing where there is nothing; on a new
image it errs. So the crops of each image come from a finder that has not seen its patient. From images of class 0 come
several: the likeliest place and the next ones, which are the hard negatives of J. Mo, L. Zhang, Y. Feng (2018).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medresnet3d.data.balanced import BalancedSampler
from medresnet3d.data.dataset import SeededDataset, data_loader
from medresnet3d.engines.checkpoint import load_checkpoint, save_checkpoint
from medresnet3d.engines.device import rank, undistributed
from medresnet3d.engines.out_of_fold import out_of_fold
from medresnet3d.engines.staged import GradientStage, StageContext
from medresnet3d.errors import DataError
from medresnet3d.networks.candidates import find_peaks
from medresnet3d.networks.cascade import PeakCascade, crop_around
from medresnet3d.optimizers import build_lr_scheduler, build_optimizer
from medresnet3d.progress import track
from medresnet3d.transforms.picture_pipelines import picture_augmentation


class CascadeStage:
    """Find places out of fold, cut crops around them, and train ``network.second`` on the crops.

    Args:
        name: of the stage, and of its folder.
        network: a :class:`~medresnet3d.networks.cascade.PeakCascade`, as it is before any training: the finders of the
            folds start from its finder.
        dataset: the training images for the finder; its items have a ``label``, and those with a ``mask`` train it.
        transform: from an item to a whole image, ``image`` (C, ...).
        loss_function: of the finder's dense logits and a mask.
        class_loss: of the second network's logits and the class.
        finder_epochs: epochs of each fold's finder.
        max_epochs: epochs of the second network.
        folds: of the out-of-fold prediction; 1 takes the finder as it is, which is right where it was trained on other
            images than these.
        batch_size: of the finder.
        crop_batch_size: of the second network.
        learning_rate: the largest, of both, in one cycle of AdamW.
        weight_decay: of both.
        hard_negatives: crops of an image of class 0, around its likeliest places.
        distance: least distance of those along one axis, in pixels.
        augmentation: see :func:`medresnet3d.transforms.picture_pipelines.picture_augmentation`.
        seed: of folds and batches.
        **options: of the finders' :class:`~medresnet3d.engines.staged.GradientStage`.

    Raises:
        DataError: while running, if no item has a mask and finders are to be trained.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        dataset: SeededDataset,
        transform: Callable[[Any], Any],
        loss_function: Callable[..., Tensor],
        class_loss: Callable[..., Tensor],
        finder_epochs: int = 1,
        max_epochs: int = 1,
        *,
        folds: int = 5,
        batch_size: int = 8,
        crop_batch_size: int = 16,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        hard_negatives: int = 3,
        distance: int = 32,
        augmentation: str = "medium",
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.name, self.network, self.dataset, self.transform = name, network, dataset, transform
        self.loss_function, self.class_loss = loss_function, class_loss
        self.finder_epochs, self.max_epochs, self.folds = finder_epochs, max_epochs, folds
        self.batch_size, self.crop_batch_size = batch_size, crop_batch_size
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.hard_negatives, self.distance = hard_negatives, distance
        self.augmentation, self.seed, self.options = augmentation, seed, options
        whole = undistributed(network)  # a finder alone, where the bundle is used for the first stage alone
        self.beginning = copy.deepcopy(getattr(whole, "finder", whole).state_dict())

    def run(self, context: StageContext) -> None:
        """Cut the crops and train, or go on with what is there."""
        network: Any = undistributed(self.network)
        chain: list[Callable[[Any], Any]] = [_to_float, *picture_augmentation(self.augmentation)]
        data = SeededDataset(self._crops(network, context), chain, seed=context.seed_of(self.name), cache="none")
        sampler = BalancedSampler(data, seed=context.seed_of(self.name))
        loader = data_loader(data, self.crop_batch_size, sampler=sampler)
        optimizer, schedule = self._optimizer(network.second, self.max_epochs * len(loader))
        GradientStage(
            self.name,
            network.second,
            loader,
            optimizer,
            self.class_loss,
            self.max_epochs,
            lr_scheduler=schedule,
            lr_unit="iteration",
        ).run(context)

    def _optimizer(self, network: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, Any]:
        optimizer = build_optimizer(network, "adamw", self.learning_rate, self.weight_decay)
        return optimizer, build_lr_scheduler(optimizer, "one_cycle", steps=steps)

    def _crops(self, network: PeakCascade, context: StageContext) -> list[dict[str, Any]]:
        """Crops of all images with their class; kept for a resumed run."""
        kept = context.folder / f"{self.name}_crops.pt"
        if context.resume and kept.is_file():
            state = load_checkpoint(kept)
        else:
            state = self._cut(network, self._places(network, context))
            if rank() == 0:
                save_checkpoint(state, kept)
        pairs = zip(state["image"], state["label"].tolist(), strict=True)
        return [{"image": crop, "label": label} for crop, label in pairs]

    def _places(self, network: PeakCascade, context: StageContext) -> Tensor:
        """The likeliest places (N, K, axes) of every image, from a finder that has not seen its patient."""
        items = self.dataset.data
        if self.folds < 2:
            return self._peaks(network.finder, list(range(len(items))), context)
        folder = context.folder / f"{self.name}_places"
        return out_of_fold(
            lambda known, unseen, fold: self._without(network, known, unseen, fold, context),
            [str(item["patient"]) for item in items],
            classes=[int(item["label"]) for item in items],
            folds=self.folds,
            seed=self.seed,
            folder=folder if context.resume else None,
        )

    def _without(
        self, network: PeakCascade, known: list[int], unseen: list[int], fold: int, context: StageContext
    ) -> Tensor:
        """Train a finder on some images and look for places in the others."""
        finder = copy.deepcopy(network.finder)
        finder.load_state_dict(self.beginning)
        known = [case for case in known if "mask" in self.dataset.data[case]]
        if not known:
            raise DataError("No training image has a `mask`, from which the first stage of a cascade learns; add some.")
        loader = data_loader(self.dataset.only(known), self.batch_size, shuffle=True, seed=self.seed)
        optimizer, schedule = self._optimizer(finder, self.finder_epochs * len(loader))
        stage = GradientStage(
            f"{self.name}_without_fold_{fold}",
            finder,
            loader,
            optimizer,
            self.loss_function,
            self.finder_epochs,
            lr_scheduler=schedule,
            lr_unit="iteration",
            **self.options,
        )
        stage.run(context)
        return self._peaks(finder, unseen, context)

    @torch.no_grad()
    def _peaks(self, finder: nn.Module, cases: list[int], context: StageContext) -> Tensor:
        finder.eval()
        found = []
        for case in track(cases, "looking for places"):
            image = self._image(case).to(context.device)
            places, _ = find_peaks(finder(image)[:, 0].float(), self.hard_negatives, self.distance)
            found.append(places.cpu())
        return torch.cat(found)

    def _image(self, case: int) -> Tensor:
        image = self.transform(dict(self.dataset.data[case]))["image"]
        return torch.as_tensor(image).as_subclass(Tensor)[None]

    def _cut(self, network: PeakCascade, places: Tensor) -> dict[str, Tensor]:
        """All crops (M, C, ...), float16, with their classes (M,)."""
        crops, labels = [], []
        for case, item in enumerate(self.dataset.data):
            label, image = int(item["label"]), self._image(case)
            chosen = places[case] if label == 0 else places[case, :1]
            crops += [crop_around(image, place[None], network.size).half() for place in chosen]
            labels += [label] * len(chosen)
        return {"image": torch.cat(crops), "label": torch.tensor(labels)}


def _to_float(item: Mapping[str, Any]) -> dict[str, Any]:
    return {**item, "image": item["image"].float()}
