"""Where a run computes: devices, several processes, and the seed they share."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from medresnet3d.data.seeding import seed_global
from medresnet3d.errors import ConfigError
from medresnet3d.networks.layers.batch_renorm import synchronise_batch_renorm


def select_device(name: str | torch.device = "auto") -> torch.device:
    """Return the device of that name.

    Args:
        name: ``"auto"`` (the first CUDA device if there is one, else the CPU), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
            Under ``torchrun``, ``"auto"`` and ``"cuda"`` mean the process's own device.

    Raises:
        ConfigError: if the name means nothing or the device is not on this machine.
    """
    if isinstance(name, torch.device):
        name = str(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto" and count == 0:
        return torch.device("cpu")
    if name in ("auto", "cuda") and count:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % count)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f'Unknown device "{name}"; use auto, cpu, cuda or cuda:NUMBER.') from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f'Device "{name}" is not supported; use auto, cpu, cuda or cuda:NUMBER.')
    if device.type == "cuda" and (device.index or 0) >= count:
        found = f"only {count} CUDA device(s)" if count else "no CUDA device"
        raise ConfigError(f'Device "{name}" was asked for, but this machine has {found}; use --device auto or cpu.')
    return device


def describe_device(device: torch.device) -> str:
    """Name a device for people: ``cpu``, or ``cuda:0`` with the name of the GPU."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def seed_everything(seed: int = 0) -> None:
    """Seed torch, numpy and python, and make cuDNN deterministic, so that the same seed gives the same result.

    Raises:
        ConfigError: if the seed is not a whole number from 0 to 2**32 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ConfigError(f"seed is {seed!r}; it must be a whole number from 0 to 4294967295.")
    seed_global(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def start_distributed() -> None:
    """Join the process group that ``torchrun`` describes in the environment: NCCL with CUDA, gloo without.

    Outside ``torchrun`` there is one process and nothing to join.

    Raises:
        ConfigError: if there are more processes on this machine than CUDA devices.
    """
    if dist.is_initialized() or "RANK" not in os.environ:
        return
    cuda = torch.cuda.is_available()
    if cuda:
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        if local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"Process {local_rank} has no CUDA device of its own (there are {torch.cuda.device_count()}); "
                "start torchrun with a smaller --nproc_per_node."
            )
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if cuda else "gloo", init_method="env://")


def stop_distributed() -> None:
    """Leave the process group, if there is one, when all its processes have come here."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def distribute(network: nn.Module, device: torch.device | str) -> nn.Module:
    """Move a network to the device and share its gradients among the processes of the run, if there are several.

    Batch normalisation layers are then computed over the samples of all processes on CUDA (``SyncBatchNorm``); on the
    CPU, which has no such layer, each process normalises by its own samples and the running statistics are those of
    rank 0. Batch renormalisation is computed over all samples on both.
    """
    device = torch.device(device)
    network = network.to(device)
    if not dist.is_initialized():
        return network
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    synchronise_batch_renorm(network)
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


def undistributed(network: nn.Module) -> nn.Module:
    """Return the network itself, without the wrapper that :func:`distribute` may have put around it."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def rank() -> int:
    """Return this process's rank; 0 when there is one process."""
    return dist.get_rank() if dist.is_initialized() else 0


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return whether ``flag`` is true in any process of the run."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return flag
    value = torch.tensor(int(flag), device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())
