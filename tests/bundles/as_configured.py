"""Networks, trainings and inputs as a bundle's own configuration makes them, for the tests of single bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medresnet3d.bundle.load import load_config
from medresnet3d.data import items
from medresnet3d.engines import load_checkpoint
from medresnet3d.workflows.train import train


def network_of(bundle: Path, **overrides: Any) -> Any:
    """The network without memory for its weights, of which sizes and types can be asked."""
    with torch.device("meta"):
        return load_config(bundle, ("inference.json",), overrides).get_parsed_content("network_def")


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def prepared(bundle: Path, image: Any) -> Tensor:
    """What the network of a bundle folder gets of one case, (1, C, ...)."""
    chain = load_config(bundle, ("inference.json",)).get_parsed_content("preprocessing")
    batch: Tensor = chain({"image": image})["image"].as_tensor()[None]
    return batch


def learn(
    bundle: Path, manifest: Path, output: Path, unseen: Sequence[Mapping[str, Any]] | None = None, **overrides: Any
) -> tuple[Any, Tensor, Tensor]:
    """Train by a bundle's train.json.

    Args:
        bundle: its folder.
        manifest: the data.
        output: of the run.
        unseen: items to ask about; by default those of the manifest's test part.
        **overrides: values of ids.

    Returns:
        the network in eval mode, the unseen cases as it gets them (N, C, ...), and their labels (N,).
    """
    files = {"data": str(manifest), "output_dir": str(output), "device": "cpu"}
    parser = load_config(bundle, ("train.json",), {**files, **overrides})
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("train#trainer").run()
    network, prepare = parser.get_parsed_content("network"), parser.get_parsed_content("validate#preprocessing")
    unseen = items(manifest, "test") if unseen is None else unseen
    images = torch.stack([prepare(item)["image"].as_tensor() for item in unseen])
    return network.eval(), images, torch.tensor([item["label"] for item in unseen])


def answers(network: nn.Module, images: Tensor) -> Tensor:
    """The network's answers (N, K), a few cases at once."""
    with torch.inference_mode():
        return torch.cat([network(part) for part in images.split(16)])


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((answers(network, images).argmax(1) == labels).float().mean())


def assert_resuming_changes_nothing(bundle: Path, manifest: Path, run: Path) -> None:
    """Go on with a run that has come to its end."""
    before = load_checkpoint(run / "checkpoints" / "best.pt")["network"]
    train(bundle, manifest, run, resume=True, device="cpu")
    after = load_checkpoint(run / "checkpoints" / "best.pt")["network"]
    assert all(torch.equal(value, after[name]) for name, value in before.items())
