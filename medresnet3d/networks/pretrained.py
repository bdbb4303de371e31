"""ImageNet weights as published by torchvision and timm, for the 2D networks and inflated for the 3D ones.

Inflation: J. Carreira, A. Zisserman. Quo vadis, action recognition? A new model and the Kinetics dataset. CVPR 2017.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from medresnet3d.errors import WeightsError

BATCH_NORM_EPS = 1e-5
"""What torchvision's and timm's batch normalisation adds to the variance in these networks."""


@dataclass(frozen=True)
class LoadedWeights:
    """What :func:`load_imagenet` did.

    Attributes:
        loaded: names that were filled, as they are called in the network.
        inflated: those of them whose 2D kernel was spread over a third axis.
        left: names of the last layer that were left at their random start, since the classes differ.
    """

    loaded: tuple[str, ...]
    inflated: tuple[str, ...]
    left: tuple[str, ...]


def inflate(weight: Tensor, depth: int, axis: int = -1) -> Tensor:
    """Spread a 2D convolution kernel over a new axis, so that an image constant along it gives the same response.

    The kernel is repeated ``depth`` times and divided by ``depth``. The default axis is the last, the through-plane
    direction k of an (i, j, k) volume, so that slices (i, j) play the part of the 2D images.

    Args:
        weight: kernel of shape (out, in, h, w).
        depth: kernel size along the new axis.
        axis: where the new axis stands in the result.
    """
    expanded = weight.unsqueeze(axis)
    return expanded.repeat_interleave(depth, dim=axis) / depth


def load_imagenet(
    network: nn.Module, path_or_url: str | os.PathLike[str], sha256: str | None = None, *, inflate_axis: int = -1
) -> LoadedWeights:
    """Load a published 2D checkpoint into a network of this package.

    Names are mapped by the network's ``published_names``. For a 3D network kernels are inflated; if the image has
    other than three channels, the kernels of the first layer are summed over red, green and blue and shared equally
    among the channels, which for a grey image gives what its three-fold copy would give. A last layer with another
    number of classes is left alone. For a VGG with a smaller pooled map than 7x7 the first hidden layer's weights are
    summed over the places that are now one, which is exact where the map is constant. A network with
    ``norm="batch_renorm"`` takes the statistics of the published batch normalisation.

    Args:
        network: a network made by :func:`medresnet3d.networks.classifier.build_classifier`, at the published width.
        path_or_url: a local file (plain tensors; ``.safetensors`` or what ``torch.save`` wrote), or a URL, which is
            downloaded once into torch's hub folder.
        sha256: the file's SHA-256; required for a URL.
        inflate_axis: see :func:`inflate`.

    Returns:
        what was loaded, inflated and left alone.

    Raises:
        WeightsError: if the file is missing, is not the expected one, holds more than tensors or does not fit.
    """
    path = _local_file(str(path_or_url), sha256)
    published = _read_tensors(path)
    target = network.state_dict()
    named = {_our_name(network, name): tensor for name, tensor in published.items()}
    named = dict(_for_batch_renorm(name, tensor, target) for name, tensor in named.items())
    unknown = sorted(set(named) - set(target))
    missing = sorted(name for name in set(target) - set(named) if not name.endswith("num_batches_tracked"))
    if unknown or missing:
        raise WeightsError(
            f"{path}: does not fit {type(network).__name__}: {len(unknown)} names unknown to it"
            f"{_examples(unknown)} and {len(missing)} missing{_examples(missing)}; "
            "use the checkpoint of the same architecture at its published width."
        )
    new, inflated, left = {}, [], []
    for name, tensor in named.items():
        shape = target[name].shape
        if name.startswith("classifier.") and tensor.shape != shape:
            left.append(name)
            continue
        fitted = _fit(tensor, shape, inflate_axis)
        if fitted is None:
            raise WeightsError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, the network's has {tuple(shape)}; "
                "build the network at its published width."
            )
        new[name] = fitted
        if fitted.ndim > tensor.ndim:
            inflated.append(name)
    network.load_state_dict(new, strict=False)
    return LoadedWeights(tuple(new), tuple(inflated), tuple(left))


def _examples(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""


def _our_name(network: nn.Module, name: str) -> str:
    name = name.removeprefix("module.")
    for pattern, replacement in getattr(network, "published_names", ()):
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name


def _for_batch_renorm(name: str, tensor: Tensor, target: Mapping[str, Tensor]) -> tuple[str, Tensor]:
    """The running variance as the running deviation that a network with batch renormalisation has in its place."""
    deviation = f"{name.removesuffix('running_var')}running_std"
    if name.endswith("running_var") and name not in target and deviation in target:
        return deviation, (tensor + BATCH_NORM_EPS).sqrt()
    return name, tensor


def _fit(tensor: Tensor, shape: torch.Size, axis: int) -> Tensor | None:
    """``tensor`` brought to ``shape``, or ``None`` where no rule applies."""
    if tensor.ndim == 4:
        if tensor.shape[1] == 3 and shape[1] != 3:  # first layer, RGB
            tensor = tensor.sum(1, keepdim=True).expand(-1, shape[1], -1, -1) / shape[1]
        if len(shape) == 5:
            tensor = inflate(tensor, shape[axis], axis)
    elif tensor.ndim == 2 and len(shape) == 2 and tensor.shape[0] == shape[0] and tensor.shape[1] % shape[1] == 0:
        tensor = tensor.reshape(shape[0], shape[1], -1).sum(-1)
    return tensor if tensor.shape == shape else None


def _local_file(path_or_url: str, sha256: str | None) -> Path:
    if urlparse(path_or_url).scheme in ("http", "https", "file", "ftp"):
        return _download(path_or_url, sha256)
    path = Path(path_or_url)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weights file; download it first or give its URL and SHA-256.")
    if sha256 is not None and (found := _sha256(path)) != sha256.lower():
        raise WeightsError(f"{path}: its SHA-256 is {found}, expected {sha256}; download the file again.")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _download(url: str, sha256: str | None) -> Path:
    if sha256 is None:
        raise WeightsError(f"{url}: give the SHA-256 of the file, so that it can be checked after the download.")
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{sha256.lower()[:16]}-{Path(urlparse(url).path).name}"
    if path.is_file() and _sha256(path) == sha256.lower():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256.lower())
    except URLError as error:
        raise WeightsError(
            f"{url}: the download failed ({error.reason}); fetch it by hand and give the file."
        ) from error
    except RuntimeError as error:
        raise WeightsError(f"{url}: the downloaded file is not the expected one ({error}).") from error
    return path


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file; nothing else in it is ever loaded."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise WeightsError(f"{path}: reading it needs safetensors; pip install medresnet3d[safetensors].") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(f"{path}: is not a file of plain tensors; nothing was loaded from it.") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: is not a state dict of tensors; nothing was loaded from it.")
    return state
