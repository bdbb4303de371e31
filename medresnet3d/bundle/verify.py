"""Whether a bundle is complete: metadata, the ids that MONAI asks for, the network's shapes, and the weights."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medresnet3d.bundle.load import config_file, load_config, load_network, weights_hash
from medresnet3d.bundle.registry import find_bundle, read_metadata, weights_file
from medresnet3d.bundle.trust import require_trust
from medresnet3d.errors import MedResNetError

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

METADATA_SCHEMA = Path(__file__).with_name("metadata.schema.json")
WORKFLOWS = {
    "train": ("train.json",),
    "evaluate": ("train.json", "evaluate.json"),
    "inference": ("inference.json",),
}


class Check(NamedTuple):
    """One thing that was verified.

    Args:
        check: what.
        ok: whether it is right.
        detail: what was found, or what is wrong.
    """

    check: str
    ok: bool
    detail: str


def verify_bundle(path: str | os.PathLike[str], trust: bool = False) -> list[Check]:
    """Verify a bundle as MONAI's own checks do: metadata schema, properties, network input and output, weights.

    Args:
        path: bundle folder or name.
        trust: accept a bundle from elsewhere although the inspection found something.

    Raises:
        BundleError: if the bundle is not found.
        UntrustedBundleError: if a bundle from elsewhere is not trusted.
    """
    folder = find_bundle(path)
    require_trust(folder, trust)
    checks = [_run("metadata", partial(_check_metadata, folder))]
    for name, files in WORKFLOWS.items():
        if any(_exists(folder, file) for file in files[-1:]):
            checks.append(_run(f"{name} ids", partial(_check_ids, folder, name, files)))
    checks.append(_run("network input and output", partial(_check_network, folder)))
    if read_metadata(folder).get("task") == "detection":
        checks.append(_run("answer", partial(_check_detections, folder)))
    checks.append(_run("weights", partial(_check_weights, folder)))
    return checks


def _exists(folder: Path, name: str) -> bool:
    return any((folder / "configs" / name).with_suffix(suffix).is_file() for suffix in (".json", ".yaml", ".yml"))


class _WrongError(Exception):
    """A check found this wrong."""


def _run(name: str, check: Callable[[], str]) -> Check:
    """Run one check; whatever a bundle's own parts raise while they are built is what is wrong with it."""
    try:
        return Check(name, True, check())
    except (_WrongError, MedResNetError) as error:
        return Check(name, False, str(error))
    except Exception as error:
        cause = error.__cause__ or error
        return Check(name, False, f"{type(cause).__name__}: {cause}")


@cache
def _validator() -> Any:
    import jsonschema

    schema = json.loads(METADATA_SCHEMA.read_text(encoding="utf-8"))
    return jsonschema.Draft201909Validator(schema)


def metadata_problems(metadata: Mapping[str, Any]) -> list[str]:
    """What in a bundle's metadata breaks the rules of the MONAI bundle format, one sentence each.

    Args:
        metadata: content of ``configs/metadata.json``.
    """
    return [
        f"{'.'.join(map(str, error.absolute_path)) or 'metadata.json'}: {error.message}"
        for error in sorted(_validator().iter_errors(metadata), key=str)
    ]


def _check_metadata(folder: Path) -> str:
    metadata = read_metadata(folder)
    problems = metadata_problems(metadata)
    if problems:
        raise _WrongError("; ".join(problems))
    return f"version {metadata['version']}, for MONAI {metadata['monai_version']}"


def _check_ids(folder: Path, workflow: str, files: tuple[str, ...]) -> str:
    from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties

    parser = load_config(folder, files)
    own = InferProperties if workflow == "inference" else TrainProperties
    properties: dict[str, Mapping[Any, Any]] = {**own, **MetaProperties}
    problems = list(_id_problems(parser, properties))
    if problems:
        raise _WrongError("; ".join(problems))
    return f"all {len(properties)} ids of the workflow fit"


def _id_problems(parser: ConfigParser, properties: Mapping[str, Mapping[Any, Any]]) -> Iterator[str]:
    for item in properties.values():
        if item["required"] and item["id"] not in parser:
            yield f"{item['id']} is missing"
        reference = parser.get(item["refer_id"]) if item.get("refer_id") else None
        if isinstance(reference, str) and reference.startswith("@") and reference[1:].replace("#", "::") != item["id"]:
            yield f"{item['refer_id']} must be @{item['id']}, not {reference}"


def _check_network(folder: Path) -> str:
    from monai.bundle import verify_net_in_out

    logger = logging.getLogger("monai.bundle.scripts")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        verify_net_in_out(
            "network_def",
            meta_file=str(config_file(folder, "metadata.json")),
            config_file=str(config_file(folder, "inference.json")),
            device="cpu",
        )
    finally:
        logger.setLevel(level)
    shape = read_metadata(folder)["network_data_format"]["inputs"]["image"]
    return f"{shape['num_channels']} x {shape['spatial_shape']} as the metadata says"


def _check_detections(folder: Path) -> str:
    """Check that a map of logits in which there is nothing becomes an empty table of detections."""
    import torch
    from monai.data import MetaTensor

    pred = read_metadata(folder)["network_data_format"]["outputs"]["pred"]
    if pred["num_channels"] != 1:
        raise _WrongError(f"a detection network gives one map of logits, not {pred['num_channels']} channels")
    dims = len(pred["spatial_shape"])
    nothing = MetaTensor(torch.full((1, *[16] * dims), -20.0), affine=torch.eye(4))
    answer = load_config(folder, ("inference.json",)).get_parsed_content("answer")
    found = answer({"pred": nothing, "image": nothing})["pred"]
    if tuple(found.shape) != (0, 5):
        raise _WrongError(
            f"`answer` makes {tuple(found.shape)} of a map without a finding, not an empty table (0, 5); end it with "
            "medresnet3d.transforms.detection.DetectionsFromMapd"
        )
    return "a table of detections"


def _check_weights(folder: Path) -> str:
    file = weights_file(folder)
    if file is None:
        return "none in the bundle; train it first"
    load_network(folder)
    return f"{file.name}, {file.stat().st_size / 1e6:.1f} MB, sha256 {weights_hash(folder)[:12]}, fits the network"
