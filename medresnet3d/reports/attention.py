"""Where a classifier looked: Grad-CAM, and occlusion sensitivity where gradients do not reach a feature map."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from monai.visualize import OcclusionSensitivity
from monai.visualize.class_activation_maps import default_upsampler
from numpy.typing import NDArray
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.trunks import trunks_of


def class_map(
    network: nn.Module,
    image: torch.Tensor,
    target: int | None = None,
    *,
    method: Literal["auto", "gradcam", "occlusion"] = "auto",
    layer: str | None = None,
    mask_size: int | None = None,
    apart: bool = False,
) -> NDArray[np.float32]:
    """Show which voxels speak for a class.

    Grad-CAM (Selvaraju et al., ICCV 2017) weights the last feature maps by their gradients; it takes one backward pass.
    Where the last layer has weights of its own for each place (a network that ``tells_places_apart``), the gradients
    are not averaged over the places (HiResCAM: Draelos and Carin, arXiv:2011.08891).
    Occlusion sensitivity covers the image patch by patch and records the loss of probability; it takes many forward
    passes and works with every network.

    Grad-CAM takes the last feature maps of every trunk (:func:`~medresnet3d.networks.trunks.trunks_of`), and of every
    run of it where it looks at one plane after another; MONAI's keeps one layer and its last run. A network that mixes
    the planes in its first layer has one map, which is given to each plane: where on it, not on which of them.
    Occlusion (MONAI's) tells that too.

    Args:
        network: a classifier that gives logits (1, C); a copy of it is used.
        image: one network input (1, channels, i, j, k) or (1, channels, i, j), on the network's device.
        target: class number; the most probable one by default.
        method: "auto" takes Grad-CAM where the network has spatial feature maps, else occlusion.
        layer: name of the module whose feature maps Grad-CAM uses; by default the last of each trunk that is more than
            2 voxels wide.
        mask_size: edge of the occluding patch in voxels; by default a quarter of the shortest edge of the image.
        apart: whether the channels show different places, such as planes of a volume, and need a map each.

    Returns:
        Importance of every voxel, shape (i, j, k) or (i, j), or with ``apart`` (channels, ...), from 0 to 1; all zero
        when nothing speaks for the class.

    Raises:
        ConfigError: if Grad-CAM is asked for and no layer gives spatial feature maps.
    """
    network = copy.deepcopy(network).eval()
    if target is None:
        with torch.no_grad():
            target = int(network(image).argmax(1))
    found = None if method == "occlusion" else _gradcam(network, image, target, layer)
    if found is None and method == "gradcam":
        raise ConfigError("Grad-CAM found no spatial feature maps in this network; use method='occlusion'.")
    if found is None:
        return _unit(_occlusion(network, image, target, mask_size, apart))
    if not apart:
        return _unit(found.sum(0))
    channels = image.shape[1]
    return _unit(found if len(found) == channels else np.repeat(found.sum(0, keepdims=True), channels, axis=0))


def last_spatial_layers(network: nn.Module, image: torch.Tensor, least: int = 3) -> list[str]:
    """Name the module of each trunk that is executed last and gives feature maps of ``least`` voxels along every axis.

    Args:
        network: the network.
        image: one network input (1, channels, i, j, k) or (1, channels, i, j).
        least: least number of voxels along every axis; 2 where no feature map of the trunk is so wide.
    """
    seen: list[tuple[str, int]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == image.ndim and output.shape[1] > 1:
                seen.append((name, min(output.shape[2:])))

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    layers = []
    for prefix in trunks_of(network):
        for width in (least, 2):
            wide = [name for name, size in seen if size >= width and name.startswith(prefix)]
            if wide:
                layers.append(wide[-1])
                break
    return layers


def _gradcam(network: nn.Module, image: torch.Tensor, target: int, layer: str | None) -> NDArray[np.float32] | None:
    """One map (n, ...) for each trunk and run, or plane, neither cut off at 0 nor scaled."""
    layers = last_spatial_layers(network, image) if layer is None else [layer]
    if not layers:
        return None
    with torch.enable_grad():
        outputs, score = _kept_outputs(network, image.detach().clone().requires_grad_(), target, layers)
        gradients = torch.autograd.grad(score, outputs)
    maps = []
    for output, gradient in zip(outputs, gradients, strict=True):
        weights = gradient
        if not getattr(network, "tells_places_apart", False):
            weights = gradient.mean(dim=tuple(range(2, gradient.ndim)), keepdim=True)
        maps.append(default_upsampler(image.shape[2:])((weights * output).sum(1, keepdim=True).detach().float()))
    return torch.cat(maps)[:, 0].cpu().numpy()


def _kept_outputs(
    network: nn.Module, image: torch.Tensor, target: int, layers: Sequence[str]
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What the layers gave, run after run, and the log-odds of the class: evidence against a rival counts too."""
    outputs: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        outputs.append(output)
        return output.clone()  # what follows may work in place

    modules = dict(network.named_modules())
    for name in layers:
        modules[name].register_forward_hook(keep)
    log_prob = torch.log_softmax(network(image).float(), dim=1)[0, target]
    return outputs, log_prob - torch.log1p(-log_prob.exp().clamp(max=1.0 - 1e-6))


def _occlusion(
    network: nn.Module, image: torch.Tensor, target: int, mask_size: int | None, apart: bool
) -> NDArray[np.float32]:
    shortest = min(image.shape[2:])
    size = min(mask_size or max(3, shortest // 4), shortest)
    with torch.no_grad():
        whole = float(torch.softmax(network(image), dim=1)[0, target])
        if not apart:
            return whole - _occluded(network, image, target, size)
        planes = [_OnePlane(network, image, channel) for channel in range(image.shape[1])]
        return np.stack([whole - _occluded(plane, plane.own, target, size) for plane in planes])


def _occluded(network: nn.Module, image: torch.Tensor, target: int, size: int) -> NDArray[np.float32]:
    """Probability of the class with a patch around each voxel covered."""
    sensitivity = OcclusionSensitivity(network, size, 8, verbose=False, overlap=0.5, activate=_softmax)
    scores, _ = sensitivity(x=image.detach())
    return np.asarray(scores[0, target].float().cpu())


class _OnePlane(nn.Module):
    """The network as a function of one channel of an image; the others are as they are."""

    def __init__(self, network: nn.Module, image: torch.Tensor, channel: int) -> None:
        super().__init__()
        self.network, self.image, self.channel = network, image.detach(), channel

    @property
    def own(self) -> torch.Tensor:
        return self.image[:, self.channel : self.channel + 1]

    def forward(self, plane: torch.Tensor) -> torch.Tensor:
        whole = self.image.repeat(len(plane), *[1] * (self.image.ndim - 1))
        whole[:, self.channel : self.channel + 1] = plane
        return self.network(whole)  # type: ignore[no-any-return]


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    """Activate over the classes; MONAI's own choice looks at the channels of the image instead."""
    return logits.softmax(dim=1)


def _unit(importance: NDArray[np.float32]) -> NDArray[np.float32]:
    positive = importance.clip(min=0.0)
    largest = float(positive.max())
    return (positive / largest if largest > 0 else np.zeros_like(positive)).astype(np.float32)
