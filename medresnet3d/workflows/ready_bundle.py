"""The ready bundle that a training leaves: the source bundle with the trained weights and what is known of them."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.named_components import overridden
from medresnet3d.bundle.registry import read_metadata
from medresnet3d.bundle.trust import record_trust
from medresnet3d.bundle.uses import metadata_of_use
from medresnet3d.io.atomic import atomic_path, atomic_write_text

if TYPE_CHECKING:
    from torch import Tensor

    from medresnet3d.data.manifest import Manifest

_START, _END = "<!-- training: written by medresnet3d train -->", "<!-- end of training -->"
_LEFT_OUT = ("models", "__pycache__", "runs", "eval")


def write_ready_bundle(
    source: Path,
    target: Path,
    *,
    state_dict: Mapping[str, Tensor],
    overrides: Mapping[str, Any],
    manifest: Manifest,
    facts: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> Path:
    """Write a bundle that ``infer`` and ``evaluate`` take: configurations, card, licences and the trained weights.

    It is remembered as trusted by its content hash.

    Args:
        source: folder of the bundle that was trained.
        target: folder to write; an earlier one there is replaced.
        state_dict: the trained network.
        overrides: ids that were set for the training; they become the values in the configurations that have them.
        manifest: the training data.
        facts: what the card tells, by name.
        metrics: validation metrics of these weights.

    Returns:
        ``target``.

    Raises:
        DataError: if the disk is full or the folder cannot be written.
    """
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    _copy(source, draft)
    for config in sorted((draft / "configs").glob("*.json")):
        if config.name != "metadata.json":
            _apply(overrides, config)
    _write_metadata(draft, manifest, facts, metrics)
    _write_channels(draft)
    _write_card(draft, facts, metrics)
    _write_weights(state_dict, draft / "models" / "model.pt")
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    record_trust(target)
    return target


def _copy(source: Path, draft: Path) -> None:
    for file in sorted(source.rglob("*")):
        relative = file.relative_to(source)
        if file.is_file() and relative.parts[0] not in _LEFT_OUT and "__pycache__" not in relative.parts:
            with atomic_path(draft / relative) as temporary:
                shutil.copyfile(file, temporary)


def _apply(overrides: Mapping[str, Any], file: Path) -> None:
    """Make overrides the values of a configuration file, where it has their ids; the file's own layout is kept."""
    config = json.loads(file.read_text(encoding="utf-8"))
    changed = False
    for key, value in overrides.items():
        *parents, name = key.replace("#", "::").split("::")
        place = config
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if isinstance(place, dict) and (name in place or "_target_" in place):
            place[name] = overridden(place.get(name), value)
            changed = True
    if changed:
        atomic_write_text(file, json.dumps(config, indent=4, ensure_ascii=False) + "\n")


def _write_metadata(draft: Path, manifest: Manifest, facts: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    metadata = metadata_of_use(read_metadata(draft), manifest.task)
    metadata["data_source"] = f"{manifest.name} (sha256 of the manifest: {manifest.content_hash()})"
    metadata["eval_metrics"] = dict(metrics)
    metadata["training"] = {
        "date": datetime.now(UTC).date().isoformat(),
        "data": {"name": manifest.name, "content_hash": manifest.content_hash()},
        "metrics": dict(metrics),
        **facts,
    }
    metadata.pop("weights", None)
    if manifest.task == "classification" and manifest.labels:
        labels = {str(i): name for i, name in enumerate(manifest.labels)}
        metadata["labels"] = labels
        output = metadata.get("network_data_format", {}).get("outputs", {}).get("pred", {})
        if "channel_def" in output:
            output |= {"num_channels": len(labels), "channel_def": labels}
    atomic_write_text(
        draft / "configs" / "metadata.json", json.dumps(metadata, indent=4, ensure_ascii=False, default=str) + "\n"
    )


def _write_channels(draft: Path) -> None:
    """Let the metadata say how many channels the network takes, where ``in_channels`` was set (several modalities)."""
    parser = load_config(draft, ("inference.json",))
    if "in_channels" not in parser:
        return
    channels = parser.get_parsed_content("in_channels")
    metadata = read_metadata(draft)
    image = metadata.get("network_data_format", {}).get("inputs", {}).get("image", {})
    if image.get("num_channels") in (None, channels):
        return
    names = list(parser.get("modalities", [])) or [f"channel {number}" for number in range(channels)]
    names += [f"{name}, detail" for name in names[: channels - len(names)]]
    image |= {"num_channels": channels, "channel_def": {str(i): name for i, name in enumerate(names)}}
    atomic_write_text(
        draft / "configs" / "metadata.json", json.dumps(metadata, indent=4, ensure_ascii=False, default=str) + "\n"
    )


def _write_card(draft: Path, facts: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Put a section on this training at the end of the model card, in place of an earlier one."""
    card = draft / "docs" / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else f"# {draft.parent.name}\n"
    text = re.sub(rf"\n*{re.escape(_START)}.*?{re.escape(_END)}\n*", "\n", text, flags=re.DOTALL).rstrip()
    rows = [*facts.items(), *((f"{name} (validation)", f"{value:.4g}") for name, value in metrics.items())]
    table = "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in rows)
    section = (
        f"\n\n{_START}\n## These weights\n\n"
        "Trained with `medresnet3d train` on the data named here; the figures further up are of the bundle it started "
        "from. Metrics are of the best epoch, on the validation cases that chose it, so they flatter.\n\n"
        f"| | |\n| --- | --- |\n{table}\n\nResearch use only. Not for clinical use.\n{_END}\n"
    )
    atomic_write_text(card, text + section)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _write_weights(state_dict: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save({name: tensor.detach().cpu() for name, tensor in state_dict.items()}, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
