"""Where in the configuration of a bundle that other people wrote its parts are.

The roles (network, preprocessing, inferer, postprocessing) are found by following the references of the evaluator, and
only where there is none by the usual names, so that a bundle may call its parts what it likes.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from medresnet3d.bundle.load import apply_overrides, load_config
from medresnet3d.errors import BundleError
from medresnet3d.workflows.foreign_rewrite import Rewriting, components, short_name

_SUFFIXES = (".json", ".yaml", ".yml")
_EVALUATORS = ("evaluator", "validate::evaluator", "evaluate::evaluator", "test::evaluator")
_NAMES = {
    "network": ("network", "net", "model", "network_def", "net_def", "model_def"),
    "inferer": ("inferer", "validate::inferer"),
    "preprocessing": ("preprocessing", "transform", "transforms", "pre_transforms", "validate::preprocessing"),
    "postprocessing": ("postprocessing", "post_transform", "post_transforms", "validate::postprocessing"),
    "prepare_batch": (),
    "loader": ("dataloader", "val_dataloader", "validate::dataloader"),
    "dataset": ("dataset", "val_dataset", "validate::dataset"),
}
_ARGUMENTS = {"loader": "val_data_loader"}
_NOT_NEEDED = ("CheckpointLoader", "StatsHandler")
_HANDLERS = ("val_handlers", "handlers")
_DEFAULT_EVALUATORS = ("SupervisedEvaluator",)


class ForeignConfig:
    """The inference configuration of one bundle from elsewhere, with what was found in it.

    Args:
        path: bundle folder.
        overrides: values of ids, or ``id=value`` texts.
        device: where to compute, e.g. ``"cpu"``.
        output_dir: folder for whatever the bundle writes by itself.
        hand_over: put our own ends in the place of the transforms that load and save images.

    Attributes:
        parser: the configuration.
        evaluator: id of the evaluator, or ``None``.
        roles: ids of the parts.
        notes: what was changed so that it runs here.
        absent: packages that it imports and that are not installed.

    Raises:
        BundleError: if there is no configuration for inference, or it cannot be read.
    """

    def __init__(
        self,
        path: Path,
        overrides: Mapping[str, Any] | Iterable[str],
        device: str,
        output_dir: Path,
        hand_over: bool = True,
    ) -> None:
        self.path = path
        self.files = config_files(path)
        self.parser: ConfigParser = load_config(path, self.files)
        rewriting = Rewriting(path, device, hand_over)
        rewriting.apply(self.parser.get())
        self.notes, self.absent = rewriting.notes, rewriting.absent
        self._set_present({"device": f"$torch.device('{device}')", "output_dir": str(output_dir)})
        self._set_present({"amp": device.startswith("cuda"), "use_amp": device.startswith("cuda")})
        apply_overrides(self.parser, overrides)
        self.evaluator = self._find_evaluator()
        self.roles = {name: self._role(name) for name in _NAMES}

    def _set_present(self, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if key in self.parser:
                self.parser[key] = value

    def _find_evaluator(self) -> str | None:
        for name in _EVALUATORS:
            if name in self.parser:
                return name
        return next((key for key, node in self.components() if short_name(node).endswith("Evaluator")), None)

    def components(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield every component of the configuration with its id, outer ones first."""
        yield from components(self.parser.get())

    @property
    def plain_evaluator(self) -> bool:
        """Whether the evaluator, if there is one, does nothing but prepare, infer and postprocess."""
        if self.evaluator is None:
            return True
        node = self.parser[self.evaluator]
        if not isinstance(node, dict):
            return False
        return short_name(node) in _DEFAULT_EVALUATORS and node.get("iteration_update") is None

    @property
    def wants_autocast(self) -> bool:
        """Whether the evaluator is told to compute in mixed precision."""
        node = self.parser[self.evaluator] if self.evaluator else None
        return isinstance(node, dict) and node.get("amp") not in (None, False)

    def role(self, name: str) -> str | None:
        """Give the id of a part: ``network``, ``inferer``, ``preprocessing``, ``postprocessing``, ...; or ``None``."""
        return self.roles[name]

    def _role(self, name: str) -> str | None:
        if name == "preprocessing":
            found = self._argument(self._role("dataset"), "transform")
        elif name == "dataset":
            found = self._argument(self._role("loader"), "dataset")
        else:
            found = self._argument(self.evaluator, _ARGUMENTS.get(name, name))
        return found or next((key for key in _NAMES[name] if key in self.parser), None)

    def _argument(self, owner: str | None, argument: str) -> str | None:
        """Give the id of what a component is given for ``argument``, references followed."""
        node = self.parser[owner] if owner else None
        if not isinstance(node, dict) or node.get(argument) is None:
            return None
        return self.follow(f"{owner}::{argument}")

    def follow(self, key: str) -> str:
        """Follow plain references (``@id``) to the id that they end at."""
        for _ in range(10):
            value = self.parser.get(key)
            if not isinstance(value, str) or not value.startswith("@"):
                return key
            key = value[1:].replace("#", "::")
        return key

    def build(self, key: str) -> Any:
        """Build what an id describes."""
        return self.parser.get_parsed_content(key)

    def feed_evaluator(self, loader: Any) -> None:
        """Give the evaluator another data loader and no handlers that load weights or log, before :meth:`build`."""
        assert self.evaluator is not None
        for argument in _HANDLERS:
            handlers = self.parser.get(self.follow(f"{self.evaluator}::{argument}"))
            if isinstance(handlers, list):
                handlers[:] = [one for one in handlers if short_name(one) not in _NOT_NEEDED]
        self.parser[f"{self.evaluator}::val_data_loader"] = loader


def has_inference(path: Path) -> bool:
    """Tell whether a file in ``configs/`` is called as those that describe the inference are."""
    return any(file.suffix in _SUFFIXES and file.stem.startswith("inf") for file in (path / "configs").glob("*"))


def config_files(path: Path) -> tuple[str, ...]:
    """Name the files in ``configs/`` that describe the inference of a bundle.

    ``inference`` is taken, else the only file whose name begins so, else ``evaluate`` over ``train``, else ``train``.

    Raises:
        BundleError: if there is none, or several could be meant.
    """
    found = {file.stem: file.name for file in sorted((path / "configs").glob("*")) if file.suffix in _SUFFIXES}
    for stem in ("inference", "infer"):
        if stem in found:
            return (found[stem],)
    similar = [name for stem, name in found.items() if re.match(r"inf(er|erence)[_\-.]", stem)]
    if len(similar) == 1:
        return (similar[0],)
    if similar:
        raise BundleError(
            f"{path / 'configs'}: several files could describe the inference ({', '.join(similar)}); copy the one that "
            "is meant to inference.json."
        )
    if "train" in found:
        return (found["train"], found["evaluate"]) if "evaluate" in found else (found["train"],)
    raise BundleError(
        f"{path / 'configs'}: there is no inference.json (or .yaml), so nothing says how this bundle is run; "
        f"found are {', '.join(found.values()) or 'no configurations'}."
    )


def use_modules_of(path: Path) -> None:
    """Let ``import scripts`` mean the packages and modules of this bundle, and not those of one loaded before."""
    folders = [str(path), str(path / "scripts")] if (path / "scripts").is_dir() else [str(path)]
    sys.path[:] = [*folders, *(entry for entry in sys.path if entry not in folders)]
    importlib.invalidate_caches()
    own = {child.stem for folder in folders for child in Path(folder).iterdir() if _is_module(child)}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in own and _is_of_bundle(module) and not _belongs_to(module, path):
            del sys.modules[name]


def _is_module(child: Path) -> bool:
    return child.suffix == ".py" or _is_package(child)


def _is_of_bundle(module: Any) -> bool:
    """Whether a module lies in some bundle; a ``utils.py`` there must not push a library out of memory."""
    places = (Path(place).resolve() for place in _places(module))
    return any((parent / "configs" / "metadata.json").is_file() for place in places for parent in place.parents)


def _is_package(folder: Path) -> bool:
    return folder.is_dir() and folder.name.isidentifier() and any(folder.glob("*.py"))


def _places(module: Any) -> list[str]:
    found = [getattr(module, "__file__", None), *map(str, getattr(module, "__path__", ()))]
    return [place for place in found if place]


def _belongs_to(module: Any, path: Path) -> bool:
    return any(Path(place).resolve().is_relative_to(path) for place in _places(module))
