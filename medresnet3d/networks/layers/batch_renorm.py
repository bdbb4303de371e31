"""Batch renormalisation in 1D, 2D and 3D, with its clipping schedule.

Paper: S. Ioffe. Batch renormalization: towards reducing minibatch dependence in batch-normalized models. NeurIPS 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from monai.networks.layers.factories import Norm
from torch import nn

from medresnet3d.errors import ConfigError

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class BatchRenorm(nn.Module):
    r"""Normalise by the batch, corrected towards the running statistics that evaluation uses.

    .. math:: y = \gamma \left(\frac{x - \mu_B}{\sigma_B} r + d\right) + \beta, \quad
              r = \text{clip}\left(\frac{\sigma_B}{\sigma}, \frac{1}{r_{max}}, r_{max}\right), \quad
              d = \text{clip}\left(\frac{\mu_B - \mu}{\sigma}, -d_{max}, d_{max}\right)

    with :math:`\sigma_B = \sqrt{\epsilon + \text{var}_B}`; r and d are constants for the gradient and use the running
    statistics before these move, :math:`\mu \mathrel{+}= \alpha (\mu_B - \mu)`, :math:`\sigma \mathrel{+}= \alpha
    (\sigma_B - \sigma)`. It is :math:`\sigma` that is kept, as in the paper, not the variance. In evaluation
    :math:`y = \gamma (x - \mu) / \sigma + \beta`, which is also what training computes where nothing is clipped.

    For the first ``warmup`` batches :math:`r_{max} = 1, d_{max} = 0`, which is batch normalisation; then both rise
    linearly. The defaults of the schedule are the paper's, for runs of many ten thousand batches: choose shorter ones
    for shorter runs.

    Args:
        num_features: channels C.
        eps: added to the variance.
        momentum: :math:`\alpha`.
        affine: whether there are :math:`\gamma` (``weight``) and :math:`\beta` (``bias``).
        r_max: largest r at the end of the schedule.
        d_max: largest d at the end of the schedule.
        warmup: batches at the start that are normalised as batch normalisation does.
        r_steps: batch at which ``r_max`` is reached.
        d_steps: batch at which ``d_max`` is reached.

    Shapes: (B, C, ...) to the same; statistics are computed in their buffers' dtype, float32 as a rule.

    Raises:
        ConfigError: for r_max below 1, a negative d_max or a momentum outside of (0, 1].
        ValueError: in training for a batch with one value per channel, or an input of another dimension.
    """

    dims: ClassVar[tuple[int, ...]] = ()
    if TYPE_CHECKING:  # TorchScript cannot read annotations that are text
        weight: torch.Tensor | None
        bias: torch.Tensor | None
        running_mean: torch.Tensor
        running_std: torch.Tensor
        num_batches_tracked: torch.Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.01,
        affine: bool = True,
        r_max: float = 3.0,
        d_max: float = 5.0,
        warmup: int = 5000,
        r_steps: int = 40000,
        d_steps: int = 25000,
    ) -> None:
        super().__init__()
        if r_max < 1 or d_max < 0 or not 0 < momentum <= 1:
            raise ConfigError(
                f"Batch renormalisation has r_max = {r_max}, d_max = {d_max} and momentum = {momentum}; "
                "give r_max >= 1, d_max >= 0 and 0 < momentum <= 1."
            )
        self.num_features, self.eps, self.momentum = num_features, float(eps), float(momentum)
        self.r_max, self.d_max = float(r_max), float(d_max)
        self.warmup, self.r_steps, self.d_steps = int(warmup), int(r_steps), int(d_steps)
        self.ranks = list(self.dims)
        self.register_parameter("weight", nn.Parameter(torch.ones(num_features)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_features)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_std", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))
        self.synchronised = False
        self.process_group: Any = None

    @torch.jit.unused
    def synchronise(self, process_group: Any = None) -> None:
        """From now on compute statistics over the samples of all processes of ``process_group`` (default: all).

        It takes effect in training while :mod:`torch.distributed` runs; every process must then run the layer.
        """
        self.synchronised, self.process_group = True, process_group

    @torch.jit.unused
    def as_batch_norm(self) -> nn.Module:
        """A batch normalisation layer in eval mode that computes what this one computes there."""
        plain = _PLAIN[max(self.dims) - 3](self.num_features, eps=0.0, affine=self.weight is not None)
        plain.to(self.running_std.device, self.running_std.dtype)
        state = {name: value for name, value in self.state_dict().items() if name != "running_std"}
        plain.load_state_dict({**state, "running_var": self.running_std.square()})
        return plain.eval()

    def limits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Largest r and largest d for the batch that comes next."""
        r = 1.0 + (self.r_max - 1.0) * self._progress(self.r_steps)
        return r, self.d_max * self._progress(self.d_steps)

    def _progress(self, end: int) -> torch.Tensor:
        """How far a limit has risen, 0 to 1."""
        seen = self.num_batches_tracked
        if end <= self.warmup:
            return (seen >= self.warmup).float()
        return ((seen - self.warmup).float() / (end - self.warmup)).clamp(0.0, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise."""
        if x.dim() not in self.ranks:
            raise ValueError(f"expected an input of {self.ranks} dimensions, found {x.dim()}")
        if not self.training:
            variance = self.running_std.square()
            return F.batch_norm(x, self.running_mean, variance, self.weight, self.bias, False, 0.0, 0.0)
        if not torch.jit.is_scripting():  # noqa: SIM102 -- TorchScript must not see what it cannot compile
            if self.synchronised and dist.is_initialized():
                return self._normalise_together(x)
        axes = list(range(x.dim()))
        axes.pop(1)
        variance, mean = torch.var_mean(x.detach().to(self.running_std.dtype), axes, correction=0)
        scale, shift = self._correct(mean, (variance + self.eps).sqrt())
        weight, bias = self._affine(scale, shift)
        return F.batch_norm(x, None, None, weight, bias, True, 0.0, self.eps)

    def _affine(self, scale: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift of the normalised values: r and d through the learned weight and bias."""
        weight, bias = self.weight, self.bias
        if weight is None or bias is None:
            return scale, shift
        return weight * scale, weight * shift + bias

    def _correct(self, mean: torch.Tensor, deviation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The correction r and d; then the running statistics move."""
        r_max, d_max = self.limits()
        scale = torch.minimum(torch.maximum(deviation / self.running_std, 1.0 / r_max), r_max)
        shift = torch.minimum(torch.maximum((mean - self.running_mean) / self.running_std, -d_max), d_max)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_std.lerp_(deviation, self.momentum)
        self.num_batches_tracked.add_(1)
        return scale, shift

    def _normalise_together(self, x: torch.Tensor) -> torch.Tensor:
        """Training over all processes, whose batches may differ in size."""
        values = x.to(self.running_std.dtype)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = values.new_tensor(values.numel() / values.shape[1])
        dist.all_reduce(count, group=self.process_group)
        mean = _SumOverProcesses.apply(values.sum(axes), self.process_group) / count
        centred = values - mean.reshape(shape)
        variance = _SumOverProcesses.apply(centred.square().sum(axes), self.process_group) / count
        deviation = (variance + self.eps).sqrt()
        scale, shift = self._correct(mean.detach(), deviation.detach())
        weight, bias = self._affine(scale, shift)
        return (centred * (weight / deviation).reshape(shape) + bias.reshape(shape)).to(x.dtype)

    def extra_repr(self) -> str:
        """Channels and limits, as ``print`` shows them."""
        return f"{self.num_features}, momentum={self.momentum:g}, r_max={self.r_max:g}, d_max={self.d_max:g}"


class _SumOverProcesses(torch.autograd.Function):
    """Sum over all processes; so is the gradient, since the loss of each depends on the sum."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, group: Any) -> torch.Tensor:
        """Sum ``value``."""
        ctx.group = group
        total = value.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Sum the gradients."""
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


class BatchRenorm1d(BatchRenorm):
    """Batch renormalisation of (B, C) or (B, C, i); see :class:`BatchRenorm`."""

    dims = (2, 3)


class BatchRenorm2d(BatchRenorm):
    """Batch renormalisation of (B, C, i, j); see :class:`BatchRenorm`."""

    dims = (4,)


class BatchRenorm3d(BatchRenorm):
    """Batch renormalisation of (B, C, i, j, k); see :class:`BatchRenorm`."""

    dims = (5,)


BATCH_NORMS = (nn.modules.batchnorm._BatchNorm, BatchRenorm)
"""Layers that keep running statistics of batches, which freezing stops."""


def synchronise_batch_renorm(network: nn.Module, process_group: Any = None) -> nn.Module:
    """Make every :class:`BatchRenorm` of ``network`` use the samples of all processes, as ``SyncBatchNorm`` does.

    Args:
        network: it is changed.
        process_group: processes that share their statistics; all by default.

    Returns:
        ``network``.
    """
    for module in network.modules():
        if isinstance(module, BatchRenorm):
            module.synchronise(process_group)
    return network


def register_batch_renorm() -> None:
    """Add ``batch_renorm`` to MONAI's ``Norm`` factory, unless it has the name."""
    if "BATCH_RENORM" not in Norm.names:
        kinds = (BatchRenorm1d, BatchRenorm2d, BatchRenorm3d)
        Norm.add_factory_callable("batch_renorm", lambda dim: kinds[dim - 1], "Batch renormalisation in 1D, 2D and 3D.")
