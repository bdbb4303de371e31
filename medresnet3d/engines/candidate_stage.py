"""The stage that trains the second network of a two-stage detector, on what its first network finds.

The cubes come from the training scans: the annotated findings, each several times with small shifts, and the candidates
of the first network that are none, the most probable ones first. The first network has learnt from these same scans, so
its false candidates there are fewer and less like findings than on new scans; that is why candidates below its
threshold are taken too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from torch import Tensor

from medresnet3d.data.dataset import SeededDataset, data_loader
from medresnet3d.engines.checkpoint import load_checkpoint, save_checkpoint
from medresnet3d.engines.device import rank, undistributed
from medresnet3d.engines.staged import GradientStage, StageContext
from medresnet3d.errors import DataError
from medresnet3d.networks.candidates import find_peaks
from medresnet3d.networks.two_stage_detector import TwoStageDetector
from medresnet3d.optimizers import build_lr_scheduler
from medresnet3d.progress import track
from medresnet3d.transforms.ct_augmentation import nodule_cube_augmentation

CLEARANCE_MM = 5.0
"""A candidate that is no hit but nearer than this to a finding's surface is neither: it teaches nothing."""


class CandidateStage:
    """Cut cubes around findings and candidates, train ``network.second`` on them, and let it score from then on.

    The cubes stay in main memory in half precision: three of 16 voxels an edge are 25 KB, of 32 voxels 200 KB.

    Args:
        name: of the stage, and of its folder.
        network: the detector, on its device.
        dataset: the training scans, whose items are used (its own transform is not).
        transform: from an item to a whole scan, ``image`` (1, i, j, k), and its findings, ``label`` (F, 5), as
            :class:`~medresnet3d.transforms.detection_targets.FindingsFromBoxesd` leaves them.
        inferer: computes ``network.first`` on a whole scan.
        optimizer: over the parameters of ``network.second``.
        loss_function: of logits (B, 1) and labels (B,).
        max_epochs: number of epochs.
        batch_size: cubes in a batch.
        lr_scheduler: name of a schedule over all iterations; ``None``: a constant rate.
        candidates_per_scan: candidates of a scan that are looked at.
        shifts: how many times each finding is taken, the first time without a shift.
        shift_mm: standard deviation of the shifts along each axis.
        augmentation: see :func:`medresnet3d.transforms.ct_augmentation.nodule_cube_augmentation`.
        **options: of :class:`~medresnet3d.engines.staged.GradientStage`.

    Raises:
        DataError: while running, if the scans have no finding or the first network gives no candidate beside them.
    """

    def __init__(
        self,
        name: str,
        network: torch.nn.Module,
        dataset: SeededDataset,
        transform: Callable[[Any], Any],
        inferer: Callable[..., Any],
        optimizer: torch.optim.Optimizer,
        loss_function: Callable[..., Tensor],
        max_epochs: int = 1,
        *,
        batch_size: int = 32,
        lr_scheduler: str | None = "one_cycle",
        candidates_per_scan: int = 30,
        shifts: int = 4,
        shift_mm: float = 1.5,
        augmentation: str = "light",
        **options: Any,
    ) -> None:
        self.name, self.network = name, network
        self.items, self.transform, self.inferer = dataset.data, transform, inferer
        self.optimizer, self.loss_function, self.max_epochs = optimizer, loss_function, max_epochs
        self.batch_size, self.lr_scheduler = batch_size, lr_scheduler
        self.candidates_per_scan, self.shifts, self.shift_mm = candidates_per_scan, shifts, shift_mm
        self.augmentation, self.options = augmentation, options

    def run(self, context: StageContext) -> None:
        """Cut the cubes and train, or go on with what is there."""
        network: Any = undistributed(self.network)
        cubes = self._cubes(network, context)
        changes = nodule_cube_augmentation(self.augmentation, network.cube_size)
        seed = context.seed_of(self.name)
        data = SeededDataset(cubes, [_to_float, *changes], seed=seed, cache="none")
        loader = data_loader(data, self.batch_size, shuffle=True, seed=seed)
        schedule = self.lr_scheduler and build_lr_scheduler(
            self.optimizer, self.lr_scheduler, steps=self.max_epochs * len(loader)
        )
        network.scoring.fill_(True)
        GradientStage(
            self.name,
            network.second,
            loader,
            self.optimizer,
            self.loss_function,
            self.max_epochs,
            lr_scheduler=schedule,
            lr_unit="iteration",
            **self.options,
        ).run(context)

    def _cubes(self, network: TwoStageDetector, context: StageContext) -> list[dict[str, Any]]:
        """All cubes of all scans; every process cuts the same, and the first one keeps them for a resumed run."""
        kept = context.folder / f"{self.name}_cubes.pt"
        if context.resume and kept.is_file():
            state = load_checkpoint(kept)
        else:
            rng = np.random.default_rng(context.seed_of(self.name))
            parts = [
                self._of_scan(network.eval(), item, context.device, rng)
                for item in track(self.items, "cutting out candidates", total=len(self.items))
            ]
            state = {"image": torch.cat([part[0] for part in parts]), "label": torch.cat([part[1] for part in parts])}
            if rank() == 0:
                save_checkpoint(state, kept)
        labels = state["label"].tolist()
        if len(set(labels)) < 2:
            missing = "findings" if 1 not in labels else "candidates that are no findings"
            raise DataError(
                f"The training scans give no {missing}, so the second stage has nothing to tell apart; train the first "
                "stage for longer, or add scans."
            )
        return [{"image": cube, "label": label} for cube, label in zip(state["image"], labels, strict=True)]

    @torch.no_grad()
    def _of_scan(
        self, network: TwoStageDetector, item: Mapping[str, Any], device: torch.device, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Cubes (N, scales, n, n, n), float16, and labels (N,) of one scan."""
        prepared = self.transform(dict(item))
        image, findings = prepared["image"], np.asarray(prepared["label"], dtype=np.float64)
        affine = np.asarray(image.affine, dtype=np.float64)
        batch = image.as_tensor()[None].to(device)
        dense = torch.as_tensor(self.inferer(batch, network.first)).float()
        centres, values = find_peaks(dense[:, 0], self.candidates_per_scan, network.distance)
        found = centres[0][torch.isfinite(values[0])].cpu().numpy()
        points, labels = self._labelled(apply_affine(affine, found), findings[~np.isnan(findings).any(1)], rng)
        voxels = torch.from_numpy(apply_affine(np.linalg.inv(affine), points)).float().to(device)
        cubes = network.cubes(batch, voxels[None])[0].half().cpu()
        return cubes, torch.from_numpy(labels)

    def _labelled(
        self, candidates: NDArray[np.float64], findings: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Points (N, 3) in mm and labels (N,): shifted findings, hits, and candidates away from any finding."""
        depth = np.linalg.norm(candidates[:, None] - findings[None, :, :3], axis=-1) - findings[:, 3] / 2
        counts = findings[:, 4] == 0
        hit = (depth[:, counts] < 0).any(1)
        away = (depth > CLEARANCE_MM).all(1)
        shift = rng.normal(0, self.shift_mm, (self.shifts, counts.sum(), 3))
        shift[0] = 0
        shifted = (findings[counts, :3] + shift).reshape(-1, 3)
        points = np.concatenate([shifted, candidates[hit], candidates[away]])
        labels = np.repeat([1, 0], [len(shifted) + int(hit.sum()), int(away.sum())])
        return points, labels.astype(np.int64)


def _to_float(item: Mapping[str, Any]) -> dict[str, Any]:
    return {**item, "image": item["image"].float()}
