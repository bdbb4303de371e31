"""What is changed in the configuration of a bundle from elsewhere, as text, before anything in it is built.

Nothing here changes what a bundle computes: files are found where they are, scans are handed over by us and results
taken back by us, and names that MONAI has dropped become those that do the same today.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import monai.transforms

SAVED = "medresnet3d.workflows.foreign_images.Saved"
SAVERS = ("SaveImaged", "SaveImageD", "SaveImageDict", "SaveClassificationd", "WriteFileMappingd")
LOADERS = ("LoadImaged", "LoadImageD", "LoadImageDict")
_LOADER_ARGUMENTS = {
    *("_target_", "_disabled_", "_requires_", "_desc_", "keys", "dtype", "meta_keys", "meta_key_postfix"),
    *("overwriting", "image_only", "ensure_channel_first", "simple_keys", "allow_missing_keys"),
}
# Components that MONAI has dropped, with the one that does exactly the same today.
_SUCCESSORS: dict[str, dict[str, Any]] = {
    "AddChannel": {"_target_": "EnsureChannelFirst", "channel_dim": "no_channel"},
    "AsChannelFirst": {"_target_": "EnsureChannelFirst", "channel_dim": -1},
    "AddChanneld": {"_target_": "EnsureChannelFirstd", "channel_dim": "no_channel"},
    "AsChannelFirstd": {"_target_": "EnsureChannelFirstd", "channel_dim": -1},
}
# Arguments that MONAI has dropped, with the values (None: any) for which leaving them out changes nothing.
_DROPPED: dict[str, dict[str, tuple[Any, ...] | None]] = {
    "SwinUNETR": {"img_size": None},
    "SegResNet": {"norm_name": ("group", "GROUP")},
    "SegResNetVAE": {"norm_name": ("group", "GROUP")},
}
# Arguments that have another name today, for the values that only the old meaning had.
_RENAMED = {"UNETR": ("pos_embed", "proj_type"), "ViT": ("pos_embed", "proj_type")}
_EMBEDDINGS = ("conv", "perceptron")
_META_ARGUMENTS = ("meta_keys", "meta_key_postfix", "meta_dict")  # metadata lie in the tensor itself today
_CUDA = re.compile(r"(['\"])cuda(:\d+)?\1")
_IMPORT = re.compile(r"^\$\s*(?:import|from)\s+(\w+)")


class Rewriting:
    """One pass over a configuration, in place.

    Args:
        path: bundle folder.
        device: where to compute; ``"cpu"`` takes the place of every CUDA device.
        hand_over: put our own ends in the place of the transforms that load and save images.

    Attributes:
        notes: what was changed, where a reader should know.
        absent: packages that the configuration imports and that are not installed; those lines are left out, because
            much is imported only to list the files of a data set.
    """

    def __init__(self, path: Path, device: str, hand_over: bool) -> None:
        self.path = path
        self.device = device
        self.hand_over = hand_over
        self.notes: list[str] = []
        self.absent: list[str] = []

    def apply(self, config: dict[str, Any]) -> None:
        """Rewrite a whole configuration."""
        for key, value in list(config.items()):
            if not key.startswith("_"):
                config[key] = self._value(value)

    def _value(self, node: Any) -> Any:
        if isinstance(node, dict):
            self._component(node)
            for key, value in node.items():
                node[key] = self._value(value)
        elif isinstance(node, list):
            node[:] = [self._value(value) for value in node if not self._fails_to_import(value)]
        elif isinstance(node, str):
            return self._text(node)
        return node

    def _fails_to_import(self, value: Any) -> bool:
        found = _IMPORT.match(value) if isinstance(value, str) else None
        if found is None or importlib.util.find_spec(found.group(1)) is not None:
            return False
        self.absent.append(found.group(1))
        return True

    def _text(self, text: str) -> str:
        if self.device == "cpu" and text.startswith("$"):
            return _CUDA.sub("'cpu'", text)
        if self.device == "cpu" and re.fullmatch(r"cuda(:\d+)?", text):
            return "cpu"
        if text[:1] in ("$", "@", "%", ""):
            return text
        return self._anchored(text)

    def _anchored(self, text: str) -> str:
        """Find a file of the bundle that the configuration names by its place on another computer."""
        if "/" not in text or "\n" in text or Path(text).exists():
            return text
        parts = Path(text).parts
        for start in range(1 if Path(text).is_absolute() else 0, len(parts)):
            candidate = self.path.joinpath(*parts[start:])
            if candidate.is_file() and ".." not in parts:
                return str(candidate)
        return text

    def _component(self, node: dict[str, Any]) -> None:
        name = short_name(node)
        if name in _SUCCESSORS:
            node.update(_SUCCESSORS[name])
            self._note(f"{name} is gone from MONAI; {node['_target_']}, which does the same, took its place.")
        for argument, values in _DROPPED.get(short_name(node), {}).items():
            if argument in node and (values is None or node[argument] in values):
                del node[argument]
                self._note(f"The argument `{argument}` of {short_name(node)} is gone from MONAI and was left out.")
        old, new = _RENAMED.get(short_name(node), ("", ""))
        if old in node and node[old] in _EMBEDDINGS:
            node[new] = node.pop(old)
        for argument in _META_ARGUMENTS:
            if argument in node and not _takes(short_name(node), argument):
                del node[argument]
        if self.hand_over and name in LOADERS:
            for argument in [key for key in node if key not in _LOADER_ARGUMENTS]:
                del node[argument]
        elif self.hand_over and name in SAVERS:
            keys = node.get("keys", "pred")
            node.clear()
            node.update({"_target_": SAVED, "keys": keys, "allow_missing_keys": True})

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _takes(name: str, argument: str) -> bool:
    """Tell whether a transform of MONAI has an argument; of anything else it is believed."""
    kind = getattr(monai.transforms, name, None)
    return kind is None or argument in inspect.signature(kind).parameters


def short_name(node: Any) -> str:
    """Give the last part of a component's ``_target_``, or an empty text."""
    target = node.get("_target_") if isinstance(node, dict) else None
    return target.rpartition(".")[2] if isinstance(target, str) else ""


def components(node: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every component below a node of a configuration with its id, outer ones first."""
    if isinstance(node, dict) and "_target_" in node:
        yield key, node
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield from components(child, f"{key}::{name}" if key else str(name))


def any_text(node: Any, test: Callable[[str], bool]) -> bool:
    """Tell whether a text below a node of a configuration passes a test."""
    if isinstance(node, str):
        return test(node)
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return any(any_text(child, test) for child in children)
