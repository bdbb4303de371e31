"""medresnet3d: residual-network systems for medical imaging as MONAI bundles.

Research use only. Not for clinical use.

The verbs of the command line are functions here with the same names: :func:`train`, :func:`evaluate`, :func:`infer`,
:func:`compare`, :func:`learning_curve`, :func:`search`. :class:`Predictor` keeps a bundle in memory, and
:func:`load_network` gives a bundle's network. All are loaded on first use, so that ``import medresnet3d`` does not
import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medresnet3d._lazy import lazy_names
from medresnet3d._version import __version__

if TYPE_CHECKING:
    from medresnet3d.bundle.load import load_network
    from medresnet3d.workflows.compare import compare
    from medresnet3d.workflows.evaluate import evaluate
    from medresnet3d.workflows.infer import infer
    from medresnet3d.workflows.learning_curve import learning_curve
    from medresnet3d.workflows.predictor import Predictor
    from medresnet3d.workflows.search import search
    from medresnet3d.workflows.train import train

__all__ = [
    "Predictor",
    "__version__",
    "compare",
    "evaluate",
    "infer",
    "learning_curve",
    "load_network",
    "search",
    "train",
]

_HOMES = {
    "load_network": "bundle.load",
    "compare": "workflows.compare",
    "evaluate": "workflows.evaluate",
    "infer": "workflows.infer",
    "learning_curve": "workflows.learning_curve",
    "Predictor": "workflows.predictor",
    "search": "workflows.search",
    "train": "workflows.train",
}


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
