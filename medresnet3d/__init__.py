"""medresnet3d: residual-network systems for medical imaging as MONAI bundles.

Research use only. Not for clinical use.

The verbs of the command line are functions here with the same names: :func:`train`, :func:`evaluate`, :func:`infer`;
:class:`Predictor` keeps a bundle in memory, and :func:`load_network` gives a bundle's network. They are loaded on first
use, so that ``import medresnet3d`` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medresnet3d._version import __version__

if TYPE_CHECKING:
    from medresnet3d.bundle.load import load_network
    from medresnet3d.workflows.evaluate import evaluate
    from medresnet3d.workflows.infer import Predictor, infer
    from medresnet3d.workflows.train import train

__all__ = ["Predictor", "__version__", "evaluate", "infer", "load_network", "train"]

_HOMES = {
    "load_network": "medresnet3d.bundle.load",
    "evaluate": "medresnet3d.workflows.evaluate",
    "infer": "medresnet3d.workflows.infer",
    "Predictor": "medresnet3d.workflows.infer",
    "train": "medresnet3d.workflows.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medresnet3d' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
