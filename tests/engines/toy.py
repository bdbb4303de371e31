"""A training run small enough to be killed and repeated many times: bright cubes against dark ones."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.handlers import ROCAUC, from_engine
from monai.transforms import Activationsd, AsDiscreted, Compose, EnsureTyped, RandFlipd, RandGaussianNoised, Transform
from torch import nn

from medresnet3d.data import SeededDataset, data_loader
from medresnet3d.engines import Evaluator, Trainer, seed_everything, train_handlers
from medresnet3d.optimizers import build_lr_scheduler

CASES = 18


class GlobalNoised(Transform):
    """A transform of the careless kind: it draws from torch's and numpy's global generators."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        noise = torch.rand(1) + float(np.random.rand())  # noqa: NPY002
        return {**item, "image": item["image"] + 0.1 * noise}


def cubes(cases: int = CASES) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {"image": rng.normal(0.5 * (i % 2), 1, (1, 8, 8, 8)).astype("float32"), "label": i % 2} for i in range(cases)
    ]


def network() -> nn.Module:
    layers = [nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(4, 2))


def training_transform() -> Compose:
    # the careless transform comes after a well-behaved random one: what is before the first of those is cached
    return Compose(
        [
            EnsureTyped("image"),
            RandGaussianNoised("image", prob=0.5),
            GlobalNoised(),
            RandFlipd("image", prob=0.5, spatial_axis=0),
        ]
    )


def make_trainer(
    output: Path,
    *,
    epochs: int = 4,
    seed: int = 0,
    workers: int = 0,
    net: nn.Module | None = None,
    validate: bool = True,
    schedule: str = "cosine",
    learning_rate: float = 1e-2,
    loss: Callable[..., torch.Tensor] | None = None,
    trainer_options: dict[str, Any] | None = None,
    **handler_options: Any,
) -> Trainer:
    seed_everything(seed)
    net = network() if net is None else net
    data = cubes()
    loader = data_loader(SeededDataset(data, training_transform(), seed=seed), 4, True, seed, workers)
    optimizer = torch.optim.Adam(net.parameters(), learning_rate)
    if schedule == "plateau":
        scheduler: Any = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=0)
    elif schedule == "adaptive":
        scheduler = build_lr_scheduler(optimizer, "adaptive_cosine", 1000, warmup=2, patience=1)
    else:
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * 4)
    validator = None
    if validate:
        validator = Evaluator(
            "cpu",
            data_loader(SeededDataset(data, EnsureTyped("image")), 4),
            net,
            precision="fp32",
            postprocessing=Compose([Activationsd("pred", softmax=True), AsDiscreted("label", to_onehot=2)]),
            key_val_metric={"auc": ROCAUC(output_transform=from_engine(["pred", "label"]))},
        )
    handlers = train_handlers(output, validator, lr_scheduler=scheduler, seed=seed, **handler_options)
    criterion = nn.CrossEntropyLoss() if loss is None else loss
    options: dict[str, Any] = {"precision": "fp32", "gradient_clip": 1.0, "train_handlers": [handlers]}
    trainer = Trainer("cpu", epochs, loader, net, optimizer, criterion, **options, **(trainer_options or {}))
    trainer.toy_validator = validator  # type: ignore[attr-defined]
    trainer.toy_handlers = handlers  # type: ignore[attr-defined]
    return trainer


def run_in_child(function: Callable[[], Any]) -> Any:
    """Start ``function`` in a forked process of its own (importing torch and MONAI anew takes seconds)."""
    process = get_context("fork").Process(target=function)
    process.start()
    return process


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
