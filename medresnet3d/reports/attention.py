"""Where a classifier looked: Grad-CAM, and occlusion sensitivity where gradients do not reach a feature map."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from monai.visualize import GradCAM, OcclusionSensitivity
from numpy.typing import NDArray
from torch import nn

from medresnet3d.errors import ConfigError


def class_map(
    network: nn.Module,
    image: torch.Tensor,
    target: int | None = None,
    *,
    method: Literal["auto", "gradcam", "occlusion"] = "auto",
    layer: str | None = None,
    mask_size: int | None = None,
) -> NDArray[np.float32]:
    """Show which voxels speak for a class.

    Grad-CAM (Selvaraju et al., ICCV 2017) weights the last feature maps by their gradients; it takes one backward pass.
    Where the last layer has weights of its own for each place (a network that ``tells_places_apart``), the gradients
    are not averaged over the places (HiResCAM: Draelos and Carin, arXiv:2011.08891).
    Occlusion sensitivity covers the image patch by patch and records the loss of probability; it takes many forward
    passes and works with every network. Both come from MONAI.

    Args:
        network: a classifier that gives logits (1, C); a copy of it is used.
        image: one network input (1, channels, i, j, k) or (1, channels, i, j), on the network's device.
        target: class number; the most probable one by default.
        method: "auto" takes Grad-CAM where the network has spatial feature maps, else occlusion.
        layer: name of the module whose feature maps Grad-CAM uses; by default the last that is more than 2 voxels wide.
        mask_size: edge of the occluding patch in voxels; by default a quarter of the shortest edge of the image.

    Returns:
        Importance of every voxel, shape (i, j, k), from 0 to 1; all zero when nothing speaks for the class.

    Raises:
        ConfigError: if Grad-CAM is asked for and no layer gives spatial feature maps.
    """
    network = _private_copy(network)
    if target is None:
        with torch.no_grad():
            target = int(network(image).argmax(1))
    found = None if method == "occlusion" else _gradcam(network, image, target, layer)
    if found is None and method == "gradcam":
        raise ConfigError("Grad-CAM found no spatial feature maps in this network; use method='occlusion'.")
    return _occlusion(network, image, target, mask_size) if found is None else found


def _private_copy(network: nn.Module) -> nn.Module:
    """Copy the network: MONAI leaves its hooks behind, and hooks forbid operations in place."""
    network = copy.deepcopy(network).eval().requires_grad_(True)
    for module in network.modules():
        if getattr(module, "inplace", False):
            setattr(module, "inplace", False)  # noqa: B010 (an attribute of some modules only)
    return network


def last_spatial_layer(network: nn.Module, image: torch.Tensor, least: int = 3) -> str | None:
    """Name the module executed last whose output is a feature map of at least ``least`` voxels along every axis.

    Args:
        network: the network.
        image: one network input (1, channels, i, j, k) or (1, channels, i, j).
        least: least number of voxels along every axis; 2 where no feature map is so wide.
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
    for width in (least, 2):
        wide = [name for name, size in seen if size >= width]
        if wide:
            return wide[-1]
    return None


class _LogOdds(nn.Module):
    """Turns logits into log-odds of each class against all others, so that evidence against a rival counts too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        log_prob = torch.log_softmax(self.network(image).float(), dim=1)
        return log_prob - torch.log1p(-log_prob.exp().clamp(max=1.0 - 1e-6))


class _HiResCAM(GradCAM):
    """Feature maps times their gradients, place by place."""

    def compute_map(  # type: ignore[override]
        self, x: torch.Tensor, class_idx: Any = None, retain_graph: bool = False, layer_idx: int = -1, **kwargs: Any
    ) -> torch.Tensor:
        _, maps, gradients = self.nn_module(x, class_idx=class_idx, retain_graph=retain_graph, **kwargs)
        return (maps[layer_idx] * gradients[layer_idx]).sum(1, keepdim=True)


def _gradcam(network: nn.Module, image: torch.Tensor, target: int, layer: str | None) -> NDArray[np.float32] | None:
    layer = layer or last_spatial_layer(network, image)
    if layer is None:
        return None
    kind = _HiResCAM if getattr(network, "tells_places_apart", False) else GradCAM
    with torch.enable_grad():
        cam = kind(nn_module=_LogOdds(network), target_layers=f"network.{layer}", postprocessing=lambda found: found)
        found = cam(x=image.detach().clone().requires_grad_(), class_idx=target)
    return _unit(found.detach().float().cpu().numpy()[0, 0].clip(min=0.0))


def _occlusion(network: nn.Module, image: torch.Tensor, target: int, mask_size: int | None) -> NDArray[np.float32]:
    shortest = min(image.shape[2:])
    size = min(mask_size or max(3, shortest // 4), shortest)
    sensitivity = OcclusionSensitivity(network, size, 8, verbose=False, overlap=0.5, activate=_softmax)
    with torch.no_grad():
        scores, _ = sensitivity(x=image.detach())
        whole = float(torch.softmax(network(image), dim=1)[0, target])
    loss = whole - np.asarray(scores[0, target].float().cpu())
    return _unit(loss.clip(min=0.0))


def _softmax(logits: torch.Tensor) -> torch.Tensor:
    """Activate over the classes; MONAI's own choice looks at the channels of the image instead."""
    return logits.softmax(dim=1)


def _unit(importance: NDArray[np.float32]) -> NDArray[np.float32]:
    largest = float(importance.max())
    return (importance / largest if largest > 0 else np.zeros_like(importance)).astype(np.float32)
