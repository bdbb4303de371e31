"""The running sums of an epoch's training metrics, so that a run resumed in its middle reports the whole epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from ignite.metrics import Metric
from monai.metrics import Cumulative


def metric_states(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Return what metrics have gathered in the running epoch, as tensors and numbers.

    With several processes nothing is returned, since the others would have to take part; the metrics of a resumed epoch
    are then of its remaining iterations.

    Args:
        metrics: metrics of ignite, or MONAI's handlers around its cumulative metrics.
    """
    if dist.is_initialized() and dist.get_world_size() > 1:
        return {}
    return {name: _state(metric) for name, metric in metrics.items()}


def _state(metric: Metric) -> Any:
    cumulative = getattr(metric, "metric_fn", None)
    if not isinstance(cumulative, Cumulative):
        return metric.state_dict()
    buffers = cumulative.get_buffer()
    if buffers is None:
        return []
    return [torch.as_tensor(each).clone() for each in (buffers if isinstance(buffers, list) else [buffers])]


def load_metric_states(metrics: Mapping[str, Metric], states: Mapping[str, Any]) -> None:
    """Put metrics back to what :func:`metric_states` found."""
    for name, state in states.items():
        metric = metrics.get(name)
        cumulative = getattr(metric, "metric_fn", None)
        if isinstance(cumulative, Cumulative):
            cumulative.reset()
            if state:
                cumulative.extend(*state)
        elif metric is not None:
            metric.load_state_dict(state)
