"""Load what a bundle holds: its configuration, its weights (tensors only) and its network."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medresnet3d.bundle.named_components import overridden
from medresnet3d.bundle.registry import find_bundle, weights_file
from medresnet3d.bundle.trust import require_trust
from medresnet3d.errors import BundleError, ConfigError, WeightsError
from medresnet3d.names import did_you_mean
from medresnet3d.weights.tensors import read_tensors

if TYPE_CHECKING:
    import torch
    from monai.bundle import ConfigParser
    from torch import Tensor

_SUFFIXES = (".json", ".yaml", ".yml")


def config_file(path: str | os.PathLike[str], name: str) -> Path:
    """The file ``configs/<name>`` of a bundle; other suffixes that MONAI reads are tried too.

    Raises:
        BundleError: if the bundle has no such file.
    """
    wanted = Path(path) / "configs" / name
    for candidate in (wanted, *(wanted.with_suffix(suffix) for suffix in _SUFFIXES)):
        if candidate.is_file():
            return candidate
    raise BundleError(f"{wanted} is missing; this bundle cannot do what was asked.")


def load_config(
    path: str | os.PathLike[str],
    files: Sequence[str] = ("inference.json",),
    overrides: Mapping[str, Any] | Iterable[str] = (),
) -> ConfigParser:
    """Read a bundle's configuration with MONAI, later files over earlier ones, with ``bundle_root`` set to its folder.

    Call :func:`medresnet3d.bundle.trust.require_trust` first: what the parser gives may run code.

    Args:
        path: bundle folder.
        files: file names in ``configs/``, e.g. ``("train.json", "evaluate.json")``.
        overrides: see :func:`apply_overrides`.

    Raises:
        BundleError: if a file is missing or cannot be read.
        ConfigError: if an override does not fit.
    """
    import yaml

    folder = Path(path).resolve()
    sources = [str(config_file(folder, name)) for name in files]
    parser = _new_parser()
    try:
        parser.read_meta(str(config_file(folder, "metadata.json")))
        parser.read_config(sources)
    except (ValueError, OSError, RecursionError, AttributeError, yaml.YAMLError) as error:
        raise BundleError(f"{folder / 'configs'}: the configuration cannot be read ({error}).") from error
    parser["bundle_root"] = str(folder)
    parser.set(_anchor_macros(parser.get(), folder))
    apply_overrides(parser, overrides)
    return parser


def _new_parser() -> ConfigParser:
    """MONAI's parser, except that another thread may import modules while it looks for a name among them."""
    from monai.bundle import ConfigParser
    from monai.bundle.config_item import ComponentLocator

    class SteadyLocator(ComponentLocator):
        def _find_module_names(self) -> list[str]:
            names = [name for name in list(sys.modules) if name.startswith(self.MOD_START)]
            return [name for name in names if all(part not in name for part in self.excludes)]

    parser = ConfigParser()
    parser.locator = SteadyLocator(excludes=parser.locator.excludes)
    return parser


def _anchor_macros(config: Any, folder: Path) -> Any:
    """Let ``%file::id`` mean a file of the bundle (MONAI would look in the current folder), as the inspection does."""
    from monai.bundle import ConfigParser

    if isinstance(config, dict):
        return {key: _anchor_macros(value, folder) for key, value in config.items()}
    if isinstance(config, list):
        return [_anchor_macros(value, folder) for value in config]
    if not isinstance(config, str) or not config.startswith("%"):
        return config
    file, target = ConfigParser.split_path_id(config[1:])
    if not file:
        return config
    return f"%{folder / file}::{target}" if target else f"%{folder / file}"


def parse_overrides(overrides: Mapping[str, Any] | Iterable[str]) -> dict[str, Any]:
    """Read ``id=value`` texts (``--set``): the value is JSON where it can be, a string otherwise.

    Args:
        overrides: texts such as ``"train::trainer::max_epochs=5"`` or ``"size=paper"``; a mapping is taken as it is.

    Raises:
        ConfigError: if a text has no ``=`` or no id.
    """
    if isinstance(overrides, Mapping):
        return dict(overrides)
    values: dict[str, Any] = {}
    for pair in overrides:
        key, separator, text = pair.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {pair!r}: write it as id=value, for example --set learning_rate=0.001.")
        values[key.strip()] = _parse_value(text)
    return values


def option_or_id(name: str, given: Any, default: Any, overrides: Mapping[str, Any]) -> Any:
    """What holds of an option of which the configuration has an id too: the option, or else what ``--set`` says.

    Args:
        name: of both.
        given: the option.
        default: what the option is where nobody gave it.
        overrides: ids and values.

    Raises:
        ConfigError: if both are given and differ.

    Example:
        >>> option_or_id("device", "auto", "auto", {"device": "cpu"})
        'cpu'
    """
    value = overrides.get(name, given)
    if given in (default, value):
        return value
    raise ConfigError(f"{name} is given twice: --{name} {given} and --set {name}={value}; leave one of them out.")


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def apply_overrides(parser: ConfigParser, overrides: Mapping[str, Any] | Iterable[str]) -> None:
    """Set ids of a configuration that has not been parsed yet.

    Args:
        parser: the configuration.
        overrides: ids and values, or ``id=value`` texts. An id must exist, or name a new argument of a component. A
            named component (loss, optimizer, ...) takes a name, see :mod:`medresnet3d.bundle.named_components`.

    Raises:
        ConfigError: for an unknown id; the message names the nearest.
    """
    for key, value in parse_overrides(overrides).items():
        hint = unknown_id_hint(parser, key)
        if hint:
            raise ConfigError(f"--set {key}: the bundle's configuration has no id {key!r}; {hint}")
        normal = key.replace("#", "::")
        parser[normal] = overridden(parser[normal], value) if normal in parser else value


def unknown_id_hint(parser: ConfigParser, key: str) -> str:
    """Say what to do about an id that a configuration does not have: the nearest; empty where it has the id."""
    normal = key.replace("#", "::")
    if normal in parser or _is_new_argument(parser, normal):
        return ""
    return did_you_mean(normal, _known_ids(parser.get()), "`medresnet3d bundle show BUNDLE` lists the ids.", 0.5)


def _is_new_argument(parser: ConfigParser, key: str) -> bool:
    parent, separator, _ = key.rpartition("::")
    component = parser.get(parent) if separator else None
    return isinstance(component, dict) and "_target_" in component


def _known_ids(config: Any, prefix: str = "") -> list[str]:
    if not isinstance(config, dict):
        return []
    ids = []
    for key, value in config.items():
        if not str(key).startswith("_"):
            ids += [f"{prefix}{key}", *_known_ids(value, f"{prefix}{key}::")]
    return ids


def load_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read trained weights: tensors only, never objects. Half precision becomes float32.

    Args:
        path: a weights file (``.pt`` state dict, ``.safetensors``) or a bundle folder.

    Raises:
        WeightsError: if the weights are missing, unreadable or anything but plain tensors.
    """
    return read_tensors(_find_weights(Path(path)))


def _find_weights(path: Path) -> Path:
    if path.is_file():
        return path
    file = weights_file(path)
    if file is None:
        raise WeightsError(
            f"{path}: this bundle has no trained weights: train it with "
            f"`medresnet3d train {path.name} --data MANIFEST -o RUN`."
        )
    return file


def fill_network(network: torch.nn.Module, state: Mapping[str, Tensor], source: str | os.PathLike[str]) -> None:
    """Put ``state`` into ``network``, every parameter, none left over.

    Args:
        network: takes the weights.
        state: names and tensors.
        source: where they come from, for the message.

    Raises:
        WeightsError: naming the first parameters that are missing, left over or of another shape; what does fit has
            been put into the network then.
    """
    from medresnet3d.networks.heads.fitted import adopt_shapes

    adopt_shapes(network, state)
    own = network.state_dict()
    shapes = [
        f"{name} is {tuple(state[name].shape)}, the network wants {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    same_shape = {name: value for name, value in state.items() if name not in own or value.shape == own[name].shape}
    # The network itself says what fits: a classifier's last layer takes entries that not every state has.
    keys = network.load_state_dict(same_shape, strict=False)
    missing = [f"{name} is missing" for name in keys.missing_keys if name not in state]
    problems = [*missing, *(f"{name} is not part of the network" for name in keys.unexpected_keys), *shapes]
    if problems:
        shown = "; ".join(problems[:3]) + ("" if len(problems) <= 3 else f"; and {len(problems) - 3} more")
        raise WeightsError(f"{source}: the weights do not fit the network: {shown}. Use the settings of the training.")


def load_network(
    name_or_path: str | os.PathLike[str],
    weights: bool = True,
    device: str | torch.device = "cpu",
    trust: bool = False,
    **overrides: Any,
) -> torch.nn.Module:
    """The network of a bundle, in eval mode.

    Args:
        name_or_path: a name from ``bundle list``, a bundle folder or a RUN folder.
        weights: load the trained weights; ``False`` gives freshly initialised ones.
        device: where to put it.
        trust: accept a bundle from elsewhere although the inspection found something.
        **overrides: values of configuration ids, e.g. ``width=64``.

    Raises:
        BundleError: if the bundle is not found or defines no ``network_def``.
        UntrustedBundleError: if a bundle from elsewhere is not trusted.
        WeightsError: if the weights are missing or do not fit.
    """
    import torch

    folder = find_bundle(name_or_path)
    require_trust(folder, trust)
    parser = load_config(folder, ("inference.json",), overrides)
    if "network_def" not in parser:
        raise BundleError(f"{folder}: configs/inference.json defines no `network_def`; the network cannot be built.")
    network = parser.get_parsed_content("network_def")
    if not isinstance(network, torch.nn.Module):
        raise BundleError(f"{folder}: `network_def` in configs/inference.json is not a network.")
    if weights:
        fill_network(network, load_state_dict(folder), _find_weights(folder))
    return network.to(torch.device(device)).eval()


def weights_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the weights file of a bundle folder (or of the file itself), as hexadecimal digits.

    Raises:
        WeightsError: if there are no weights.
    """
    with _find_weights(Path(path)).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
