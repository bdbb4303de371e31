"""Training and evaluation engines, checkpoints, seeding, precision and distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medresnet3d._lazy import lazy_names

if TYPE_CHECKING:
    from medresnet3d.engines.bias_correction import BiasCorrection
    from medresnet3d.engines.checkpoint import load_checkpoint, save_checkpoint
    from medresnet3d.engines.device import (
        distribute,
        seed_everything,
        select_device,
        start_distributed,
        stop_distributed,
    )
    from medresnet3d.engines.evaluator import Evaluator, evaluate_handlers
    from medresnet3d.engines.handlers import train_handlers
    from medresnet3d.engines.precision import Precision, SafeConvolutions, self_test
    from medresnet3d.engines.trainer import Trainer, TrainingInterrupted

# Loaded on first use, so that the precision self-test runs without MONAI.
_HOMES = {
    "BiasCorrection": "bias_correction",
    "Evaluator": "evaluator",
    "Precision": "precision",
    "SafeConvolutions": "precision",
    "Trainer": "trainer",
    "TrainingInterrupted": "trainer",
    "distribute": "device",
    "evaluate_handlers": "evaluator",
    "load_checkpoint": "checkpoint",
    "save_checkpoint": "checkpoint",
    "seed_everything": "device",
    "select_device": "device",
    "self_test": "precision",
    "start_distributed": "device",
    "stop_distributed": "device",
    "train_handlers": "handlers",
}

__all__ = [
    "BiasCorrection",
    "Evaluator",
    "Precision",
    "SafeConvolutions",
    "Trainer",
    "TrainingInterrupted",
    "distribute",
    "evaluate_handlers",
    "load_checkpoint",
    "save_checkpoint",
    "seed_everything",
    "select_device",
    "self_test",
    "start_distributed",
    "stop_distributed",
    "train_handlers",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
