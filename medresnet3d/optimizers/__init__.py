"""Gradient rules, learning-rate schedules and regularisers of weights, each by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medresnet3d._lazy import lazy_names

if TYPE_CHECKING:
    from medresnet3d.optimizers.figure_presets import FIGURES
    from medresnet3d.optimizers.l1 import l1_penalty, soft_threshold
    from medresnet3d.optimizers.parameter_groups import group_parameters, regularised_parameters
    from medresnet3d.optimizers.rules import RULES, build_optimizer
    from medresnet3d.optimizers.schedule_names import SCHEDULES, build_lr_scheduler, schedule_curve

__all__ = [
    "FIGURES",
    "RULES",
    "SCHEDULES",
    "build_lr_scheduler",
    "build_optimizer",
    "group_parameters",
    "l1_penalty",
    "regularised_parameters",
    "schedule_curve",
    "soft_threshold",
]

_HOMES = {
    "FIGURES": "figure_presets",
    "RULES": "rules",
    "SCHEDULES": "schedule_names",
    "build_lr_scheduler": "schedule_names",
    "build_optimizer": "rules",
    "l1_penalty": "l1",
    "group_parameters": "parameter_groups",
    "regularised_parameters": "parameter_groups",
    "schedule_curve": "schedule_names",
    "soft_threshold": "l1",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
