"""Builds bundles that other people wrote, whichever way they are made."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.engines.utils import default_prepare_batch
from monai.inferers import SimpleInferer, SliceInferer
from numpy._core import multiarray

from medresnet3d.bundle.load import parse_overrides, weights_hash
from medresnet3d.errors import BundleError
from medresnet3d.workflows.foreign_config import ForeignConfig, has_inference, use_modules_of
from medresnet3d.workflows.foreign_engine import OneCase, attach_engine, template_item
from medresnet3d.workflows.foreign_errors import missing_packages, told_in_words
from medresnet3d.workflows.foreign_files import FileParts, config_runner
from medresnet3d.workflows.foreign_images import as_compose, feed
from medresnet3d.workflows.foreign_labels import read_meaning
from medresnet3d.workflows.foreign_parts import ForeignParts, Workspace
from medresnet3d.workflows.foreign_rewrite import any_text, short_name
from medresnet3d.workflows.foreign_weights import WeightsPlan, fill, networks_of, plan_weights
from medresnet3d.workflows.foreign_workflow import has_workflow, workflow_parts


def foreign_parts(
    path: Path,
    metadata: Mapping[str, Any],
    overrides: Mapping[str, Any] | Iterable[str],
    device: torch.device,
    exact: bool = False,
) -> ForeignParts:
    """Build a bundle that other people wrote; see :func:`medresnet3d.workflows.bundle_parts.bundle_parts`.

    Raises:
        BundleError: if it cannot run here; the message says why in one sentence.
        WeightsError: if its weights are missing or do not fit.
        ConfigError: for an unknown override.
    """
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)  # an optional decoder is missing
    use_modules_of(path)
    workspace = Workspace(prefix="medresnet3d-")
    with warnings.catch_warnings():  # what MONAI tells the authors of configs; whoever runs one cannot act on it
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
        parts = _parts(path, metadata, parse_overrides(overrides), device, exact, Path(workspace.name))
    parts.workspace = workspace
    return parts


def _parts(
    path: Path, metadata: Mapping[str, Any], overrides: dict[str, Any], device: torch.device, exact: bool, scratch: Path
) -> ForeignParts:
    if not has_inference(path) and has_workflow(path):
        return workflow_parts(path, metadata, overrides, device, exact, scratch)
    config = ForeignConfig(path, overrides, str(device), scratch)
    if _makes_images(config, metadata):
        raise BundleError(
            f"{path}: this bundle makes images out of noise and takes no scan, so nothing can be inferred."
        )
    if not config.plain_evaluator:
        return _engine_parts(config, metadata, device)
    return _plain_parts(config, metadata, device, exact) or _whole(config, metadata, device, overrides)


def _engine_parts(config: ForeignConfig, metadata: Mapping[str, Any], device: torch.device) -> ForeignParts:
    loader = OneCase()
    plans = _plans(config)
    config.feed_evaluator(loader)
    plain = _plain_parts(config, metadata, device, True, plans)
    if plain is None:
        raise BundleError(_takes_no_scan(config, metadata))
    return attach_engine(config, loader, plain)


def _plans(config: ForeignConfig) -> list[WeightsPlan]:
    """Find the weights first, so that a bundle without them says so at once.

    Raises:
        WeightsError: if they are missing.
    """
    return plan_weights(config, config.role("network") or "network")


def _plain_parts(
    config: ForeignConfig,
    metadata: Mapping[str, Any],
    device: torch.device,
    exact: bool,
    plans: list[WeightsPlan] | None = None,
) -> ForeignParts | None:
    """Build the parts of a bundle whose preprocessing loads its images with ``LoadImaged``; ``None`` for another."""
    path, meaning = config.path, read_meaning(metadata)
    plans = _plans(config) if plans is None else plans
    preprocessing_key = config.role("preprocessing")
    with told_in_words(path, metadata, "its preprocessing"), _tensors_and_arrays():
        preprocessing = as_compose(config.build(preprocessing_key) if preprocessing_key else None)
    inferer = _optional(config, metadata, "inferer") if preprocessing.transforms else None
    if isinstance(inferer, SliceInferer):
        meaning = replace(meaning, spatial_dims=3)
    image_keys = feed(preprocessing, meaning.spatial_dims == 2, meaning.channels)
    if not image_keys or config.role("network") is None:
        return None
    network, notes = _network(config, metadata, plans)
    postprocessing, batch = (_optional(config, metadata, role) for role in ("postprocessing", "prepare_batch"))
    parts = ForeignParts(
        bundle=path,
        network=network.to(device).eval(),
        preprocessing=preprocessing,
        inferer=SimpleInferer() if inferer is None else inferer,
        answer=as_compose(postprocessing),
        task=meaning.task,
        labels=meaning.labels,
        device=device,
        weights_hash=weights_hash(plans[0].file),
        notes=[*config.notes, *notes],
        metadata=metadata,
        meaning=meaning,
        image_keys=image_keys,
        batch=batch or default_prepare_batch,
        autocast=config.wants_autocast and device.type == "cuda",
    )
    parts.take_over(exact)
    return parts


def _optional(config: ForeignConfig, metadata: Mapping[str, Any], role: str) -> Any:
    key = config.role(role)
    if key is None:
        return None
    with told_in_words(config.path, metadata, f"its {role}"), _tensors_and_arrays():
        return config.build(key)


def _network(
    config: ForeignConfig, metadata: Mapping[str, Any], plans: Sequence[WeightsPlan]
) -> tuple[torch.nn.Module, list[str]]:
    """Build the network with its weights."""
    notes: list[str] = []
    key = str(config.role("network"))
    with told_in_words(config.path, metadata, "its network"), _tensors_and_arrays():
        network = config.build(key)
        if not isinstance(network, torch.nn.Module):
            raise BundleError(f"{config.path}: `{key}` in its configuration is not a network.")
        for plan in plans:
            named = {"model": network} if plan.networks == {"model": key} else networks_of(plan, config)
            notes += fill(plan, named)
    return network, notes


def _makes_images(config: ForeignConfig, metadata: Mapping[str, Any]) -> bool:
    """Whether a bundle generates images: it says so and loads none."""
    words = f"{metadata.get('task', '')} {metadata.get('description', '')} {config.path.name}".lower()
    if any(short_name(node).startswith("LoadImage") for _, node in config.components()):
        return False
    noise = any_text(config.parser.get(), lambda text: "torch.rand" in text)
    return noise or any(word in words for word in ("generat", "synthesis", "gan", "diffusion", "ddpm"))


def _whole(
    config: ForeignConfig, metadata: Mapping[str, Any], device: torch.device, overrides: Mapping[str, Any]
) -> ForeignParts:
    """Let a bundle that reads its images in a way of its own run as a whole, on one case at a time."""
    if not any(short_name(node).endswith("Dataset") for _, node in config.components()):
        raise BundleError(_takes_no_scan(config, metadata))
    if any("WSI" in short_name(node) for _, node in config.components()):
        raise BundleError(
            f"{config.path}: it reads whole-slide images tile by tile with a reader of its own, which infer cannot "
            "feed; run it with `python -m monai.bundle run`."
        )
    plans, meaning = _plans(config), read_meaning(metadata)
    if config.role("network") is not None:
        _network(config, metadata, plans)
    return FileParts(
        bundle=config.path,
        network=torch.nn.Identity(),
        preprocessing=as_compose(None),
        inferer=SimpleInferer(),
        answer=as_compose(None),
        task=meaning.task,
        labels=meaning.labels,
        device=device,
        weights_hash=weights_hash(plans[0].file),
        notes=[*config.notes, "It reads its images in a way of its own, so it runs as a whole, once for each case."],
        metadata=metadata,
        meaning=meaning,
        runner=config_runner(config.path, overrides, str(device), template_item(config, ("image",))),
    )


def _takes_no_scan(config: ForeignConfig, metadata: Mapping[str, Any]) -> str:
    """Say why there is nothing to give a scan to."""
    missing = missing_packages(metadata)
    hint = f" (not installed are {', '.join(missing)})" if missing else ""
    return f"{config.path}: nothing in its configuration loads images that a scan could take the place of{hint}."


@contextmanager
def _tensors_and_arrays() -> Iterator[None]:
    """Let configurations read files of tensors and plain NumPy arrays (``torch.load``), and still no objects."""
    kinds = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    rebuild, scalar = multiarray._reconstruct, multiarray.scalar
    names = [(rebuild, "numpy.core.multiarray._reconstruct"), (scalar, "numpy.core.multiarray.scalar")]
    with torch.serialization.safe_globals([np.ndarray, np.dtype, rebuild, scalar, *names, *kinds]):
        yield
