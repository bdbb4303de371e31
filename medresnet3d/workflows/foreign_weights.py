"""The weights of a bundle from elsewhere: which file, into which networks; tensors only, as everywhere here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medresnet3d.bundle.load import load_state_dict
from medresnet3d.bundle.registry import read_file
from medresnet3d.errors import BundleError, WeightsError
from medresnet3d.workflows.foreign_config import ForeignConfig
from medresnet3d.workflows.foreign_rewrite import short_name

_SUFFIXES = (".pt", ".pth", ".safetensors", ".ckpt")
_PROGRAMS = (".ts", ".jit")
_PREFIX = "module."


@dataclass(frozen=True)
class WeightsPlan:
    """What a bundle loads.

    Args:
        file: the weights.
        networks: ids of the networks by their name in the file.
        strict: whether every parameter must be there.
    """

    file: Path
    networks: dict[str, str]
    strict: bool


def plan_weights(config: ForeignConfig, network: str) -> list[WeightsPlan]:
    """Find what the bundle's ``CheckpointLoader`` components load; without any, its own ``models/model.pt``.

    Args:
        config: the bundle's configuration.
        network: id of the network.

    Raises:
        WeightsError: if a file is not there; the message names the command that fetches it.
    """
    plans = []
    for key, node in config.components():
        if short_name(node) == "CheckpointLoader" and node.get("load_path") is not None:
            plans.append(_plan_of(config, key, node))
    if not plans:
        plans.append(WeightsPlan(the_only_file(config.path), {"model": network}, strict=True))
    return plans


def _plan_of(config: ForeignConfig, key: str, node: Mapping[str, Any]) -> WeightsPlan:
    file = Path(str(config.build(f"{key}::load_path")))
    file = file if file.is_absolute() else config.path / file
    place = config.follow(f"{key}::load_dict")
    load_dict = config.parser.get(place)
    names = load_dict if isinstance(load_dict, Mapping) else ()
    networks = {str(name): f"{place}::{name}" for name in names}
    strict = bool(node.get("strict", True)) and bool(node.get("strict_shape", True))
    return WeightsPlan(_existing(file, config.path), networks, strict)


def _existing(file: Path, path: Path) -> Path:
    """Give the file, or the one that holds the same weights in another form.

    Raises:
        WeightsError: if there is none.
    """
    if file.is_file():
        return file
    for suffix in (*_SUFFIXES, *_PROGRAMS):
        other = file.with_suffix(suffix)
        if other.is_file():
            return other
    raise WeightsError(_absent(file, path))


def the_only_file(path: Path) -> Path:
    """Find the weights of a bundle whose configuration does not name them.

    Raises:
        WeightsError: if there are none, or several could be meant.
    """
    models = path / "models"
    preferred = [models / f"model{suffix}" for suffix in (*_SUFFIXES, *_PROGRAMS)]
    found = [file for file in preferred if file.is_file()]
    found = found or sorted(file for file in models.glob("*") if file.suffix in (*_SUFFIXES, *_PROGRAMS))
    if len(found) > 1 and found[0] not in preferred:
        names = ", ".join(file.name for file in found)
        raise WeightsError(
            f"{models}: several weights are here ({names}) and the configuration does not say which; rename the right "
            "one to model.pt."
        )
    if not found:
        raise WeightsError(_absent(models / "model.pt", path))
    return found[0]


def _absent(file: Path, path: Path) -> str:
    """Say that weights are missing and how they are fetched."""
    large = next((path / name for name in _large_file_lists(path)), None)
    place = file.relative_to(path) if file.is_relative_to(path) else file
    if large is None:
        return (
            f"{path}: the weights {place} are not in the bundle; fetch the whole bundle with "
            f"`python -m monai.bundle download --name {path.name} --bundle_dir {path.parent}`."
        )
    url = _large_files(large).get(str(place))
    return (
        f"{path}: the weights {place} are not in the bundle; fetch them with `python -m monai.bundle "
        f"download_large_files --bundle_path {path}`" + (f" (from {url})." if url else ".")
    )


def _large_file_lists(path: Path) -> list[str]:
    names = (f"large_files.{suffix}" for suffix in ("yml", "yaml", "json"))
    return [name for name in names if (path / name).is_file()]


def _large_files(file: Path) -> dict[str, str]:
    """Read the addresses of large files by their place in the bundle."""
    content = read_file(file)
    listed = content.get("large_files") if isinstance(content, Mapping) else None
    entries = [one for one in listed or () if isinstance(one, Mapping)]
    return {str(one.get("path")): str(one["url"]) for one in entries if one.get("url")}


def fill(plan: WeightsPlan, networks: Mapping[str, torch.nn.Module]) -> list[str]:
    """Put weights into networks.

    Args:
        plan: the file and what it is for.
        networks: by their name in the file.

    Returns:
        notes: what was not as expected.

    Raises:
        WeightsError: if the file cannot be read, or the weights do not fit a network.
    """
    notes: list[str] = []
    states = _states(plan.file, list(networks))
    for name, network in networks.items():
        notes += _fill_one(network, states[name], plan)
    return notes


def _states(file: Path, names: list[str]) -> dict[str, dict[str, torch.Tensor]]:
    """Read one state dict for each name; a file for one network may be the state dict itself."""
    if file.suffix in _PROGRAMS:
        return dict.fromkeys(names, _program_state(file))
    content = None if file.suffix == ".safetensors" else _read(file)
    if isinstance(content, Mapping) and all(isinstance(content.get(name), Mapping) for name in names):
        return {name: _tensors(content[name], file) for name in names}
    if len(names) > 1:
        raise WeightsError(f"{file}: holds no weights called {', '.join(names)}, which the configuration asks for.")
    return {names[0]: load_state_dict(file)}


def _read(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception:
        # the careful reader says what is wrong
        return load_state_dict(file)


def _tensors(state: Mapping[str, Any], file: Path) -> dict[str, torch.Tensor]:
    strange = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise WeightsError(f"{file}: {strange[0]!r} is not a tensor; a state dict holds tensors only.")
    return {str(name): value.float() if _is_half(value) else value for name, value in state.items()}


def _is_half(tensor: torch.Tensor) -> bool:
    return tensor.dtype in (torch.float16, torch.bfloat16)


def _program_state(file: Path) -> dict[str, torch.Tensor]:
    """Take the tensors out of a TorchScript program; the program itself is not run.

    The inspection reports every such file, so a bundle that holds one is here only if the user trusts it.
    """
    try:
        return dict(torch.jit.load(str(file), map_location="cpu").state_dict())
    except (RuntimeError, ValueError, OSError) as error:
        raise WeightsError(f"{file}: not a readable TorchScript file ({str(error).splitlines()[0]}).") from error


def _fill_one(network: torch.nn.Module, state: dict[str, torch.Tensor], plan: WeightsPlan) -> list[str]:
    if state and all(name.startswith(_PREFIX) for name in state):
        state = {name.removeprefix(_PREFIX): value for name, value in state.items()}
    own = network.state_dict()
    missing = [name for name in own if name not in state]
    surplus = [name for name in state if name not in own]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, the network wants {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if (plan.strict and (missing or surplus or shapes)) or len(missing) + len(shapes) == len(own):
        problems = [f"{n} is missing" for n in missing] + [f"{n} is not part of the network" for n in surplus] + shapes
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(f"{plan.file}: the weights do not fit the network: {'; '.join(problems[:3])}{more}.")
    fitting = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    network.load_state_dict(fitting, strict=False)
    left = len(own) - len(fitting)
    if not left:
        return []
    return [f"{plan.file.name} has no weights for {left} of the network's {len(own)} tensors, as the bundle allows."]


def networks_of(plan: WeightsPlan, config: ForeignConfig) -> dict[str, torch.nn.Module]:
    """Build the networks that a plan fills; what else it names (an optimizer, say) is left out.

    Raises:
        BundleError: if it names no network.
    """
    built = {name: config.build(key) for name, key in plan.networks.items()}
    networks = {name: one for name, one in built.items() if isinstance(one, torch.nn.Module)}
    if not networks:
        raise BundleError(f"{config.path}: the configuration loads {plan.file.name} into nothing that is a network.")
    return networks
