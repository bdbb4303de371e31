"""The evaluation engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents, SupervisedEvaluator
from monai.utils import CommonKeys
from torch import nn

from medresnet3d.engines.device import rank, undistributed
from medresnet3d.engines.inferer import PrecisionInferer, bring_labels_to_predictions, main_output
from medresnet3d.engines.logs import scalar_metrics, write_metrics
from medresnet3d.engines.precision import Precision
from medresnet3d.progress import Progress


class Evaluator(SupervisedEvaluator):
    """MONAI's ``SupervisedEvaluator`` with mixed precision on any device and auxiliary outputs.

    Args:
        device: where to compute.
        val_data_loader: loader of batches with the key ``image`` and usually ``label``.
        network: the network, on the device; one wrapped for several processes is used without its wrapper, so that
            processes may have different numbers of cases.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``; see :class:`medresnet3d.engines.Precision`.
        inferer: as in MONAI.
        smaller_is_better: whether the key metric is an error, so that a smaller value is the better one.
        **options: all other arguments of ``monai.engines.SupervisedEvaluator`` (``postprocessing``, ``key_val_metric``,
            ``val_handlers``, ...).

    Raises:
        ConfigError: if the precision is unknown or the device does not have it.
    """

    def __init__(
        self,
        device: str | torch.device,
        val_data_loader: Iterable[Any],
        network: nn.Module,
        precision: str = "auto",
        inferer: Callable[..., Any] | None = None,
        smaller_is_better: bool = False,
        **options: Any,
    ) -> None:
        number_format = Precision(precision)
        device = torch.device(device)
        self.precision = number_format.resolve(device)
        handlers = options.pop("val_handlers", None)
        super().__init__(
            device,
            val_data_loader,  # type: ignore[arg-type]
            undistributed(network),
            inferer=PrecisionInferer(inferer, number_format),  # type: ignore[arg-type]
            metric_cmp_fn=_is_smaller if smaller_is_better else _is_larger,
            **options,
        )
        self.add_event_handler(IterationEvents.FORWARD_COMPLETED, _keep_main_output)
        self.add_event_handler(IterationEvents.MODEL_COMPLETED, bring_labels_to_predictions)
        if handlers is not None:
            self._register_handlers(handlers)


def _is_larger(new: float, best: float) -> bool:
    """Compare key metrics; anything is better than NaN."""
    return bool(new > best or (new == new and best != best))


def _is_smaller(new: float, best: float) -> bool:
    return _is_larger(-new, -best)


def _keep_main_output(engine: Evaluator) -> None:
    engine.state.output[CommonKeys.PRED] = main_output(engine.state.output[CommonKeys.PRED])


class EvaluateHandlers:
    """Progress and ``metrics.csv`` of an evaluation; see :func:`evaluate_handlers`."""

    def __init__(self, output_dir: str | os.PathLike[str] | None, description: str) -> None:
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.description = description
        self._progress: Progress | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to an :class:`Evaluator`."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, self._complete)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Engine) -> None:
        if rank() == 0:
            self._progress = Progress(self.description, engine.state.epoch_length)
            self._progress.__enter__()

    def _advance(self, engine: Engine) -> None:
        if self._progress is not None:
            self._progress.advance()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None

    def _complete(self, engine: Engine) -> None:
        self._close()
        if self.output_dir is not None and rank() == 0:
            write_metrics([scalar_metrics(engine.state.metrics)], self.output_dir / "metrics.csv")

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._close()
        raise error


def evaluate_handlers(
    output_dir: str | os.PathLike[str] | None = None, description: str = "evaluating"
) -> EvaluateHandlers:
    """Make the handler that an evaluation or inference needs, for ``val_handlers`` of :class:`Evaluator`.

    In a configuration it is the element of a list, as :func:`medresnet3d.engines.train_handlers` is.

    Args:
        output_dir: write the metrics to ``metrics.csv`` in this folder; ``None``: only show the progress.
        description: what the progress bar says.
    """
    return EvaluateHandlers(output_dir, description)
