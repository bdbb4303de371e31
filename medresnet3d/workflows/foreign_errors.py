"""Why a bundle from elsewhere cannot run here, in one sentence."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medresnet3d.errors import BundleError, MedResNetError

# import name to the name that pip installs
_PIP_NAMES = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "generative": "monai-generative",
    "ignite": "pytorch-ignite",
    "itk": "itk",
    "openslide": "openslide-python",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
_PACKAGE_LISTS = ("required_packages_version", "optional_packages_version")
_MODULE = re.compile(r"No module named ['\"]([\w.]+)['\"]")
_ARGUMENT = re.compile(r"(?:(\w+)(?:\.__init__)?\(\) )?got an unexpected keyword argument ['\"](\w+)['\"]")
_COMPONENT = re.compile(r"Cannot locate class or function path: ['\"]?([\w.]+)")
_OPTIONAL = re.compile(r"(?:import|from|package|install|requires?|needs?)\s+[`'\"]?(\w[\w.\-]*)", re.IGNORECASE)
_KNOWN_OPTIONAL = ("torchvision", "cucim", "openslide", "einops", "timm", "detectron2", "transformers", "itk", "cupy")


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it, outermost first."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def explain(path: Path, metadata: Mapping[str, Any], what: str, error: BaseException) -> MedResNetError:
    """Give the error of ours that says in one sentence why a part of a bundle cannot be built or run.

    Args:
        path: bundle folder.
        metadata: content of its ``metadata.json``.
        what: the part, for the message.
        error: what happened.
    """
    links = list(chain(error))
    own = next((link for link in links if isinstance(link, MedResNetError)), None)
    if own is not None:
        return own
    for link in reversed(links):
        sentence = _changed_monai(link, metadata) or _missing_package(link) or _missing_key(link) or _missing_name(link)
        if sentence:
            return BundleError(f"{path}: {what} cannot run here: {sentence}")
    root = links[-1]
    return BundleError(f"{path}: {what} cannot run here ({_line(root)}); --debug shows where.")


def _missing_package(error: BaseException) -> str | None:
    text = str(error)
    optional = type(error).__name__ == "OptionalImportError"
    if not isinstance(error, ImportError) and not optional:
        return None
    found = _MODULE.search(text)
    module = found.group(1).partition(".")[0] if found else next((name for name in _KNOWN_OPTIONAL if name in text), "")
    if not module and optional and (named := _OPTIONAL.search(text)):
        module = named.group(1)
    if not module:
        return f"an import failed ({_line(error)})."
    if module == "monai":
        return f"it imports {found.group(1) if found else 'a name'}, which is not in the installed MONAI."
    return _needs(module)


def _needs(module: str) -> str:
    return f"it needs the package {module}, which is not installed (pip install {_PIP_NAMES.get(module, module)})."


def _changed_monai(error: BaseException, metadata: Mapping[str, Any]) -> str | None:
    import monai

    text = str(error)
    made_for = (
        f"it was made for MONAI {metadata.get('monai_version', 'of another version')}, here is {monai.__version__}"
    )
    argument = _ARGUMENT.search(text)
    if argument and isinstance(error, TypeError | RuntimeError):
        owner = (
            f"{argument.group(1)} has" if argument.group(1) and argument.group(1) != "__init__" else "a component has"
        )
        return f"{owner} no argument `{argument.group(2)}` any more ({made_for})."
    component = _COMPONENT.search(text)
    if component:
        package, _, rest = component.group(1).partition(".")
        if rest and importlib.util.find_spec(package) is None:
            return _needs(package)
        return f"there is no component {component.group(1)} ({made_for}, or a package that it needs is missing)."
    return None


def _missing_key(error: BaseException) -> str | None:
    """Say what a case would have to bring along, where a transform asks for more than images."""
    if not isinstance(error, KeyError) or not error.args or not isinstance(error.args[0], str):
        return None
    found = re.search(r"[`'\"]?(\w+)[`'\"]?", error.args[0])
    name = found.group(1) if found and " " not in error.args[0] else None
    name = name or next(iter(re.findall(r"[`'\"](\w+)[`'\"]", error.args[0])), None)
    return None if name is None else f"it needs `{name}` for every case, which a scan alone does not bring."


def _missing_name(error: BaseException) -> str | None:
    """Name the package behind a name that an expression uses and no import gave."""
    found = re.search(r"name '(\w+)' is not defined", str(error)) if isinstance(error, NameError) else None
    return None if found is None else f"an expression in it uses {found.group(1)}, which is not installed or imported."


def missing_packages(metadata: Mapping[str, Any]) -> list[str]:
    """Name the packages of a bundle's metadata that are not installed, as pip knows them."""
    names: list[str] = []
    for key in _PACKAGE_LISTS:
        listed = metadata.get(key)
        names += [str(name) for name in listed] if isinstance(listed, Mapping) else []
    return [name for name in dict.fromkeys(names) if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    modules = {pip: module for module, pip in _PIP_NAMES.items()}
    module = modules.get(name, name).replace("-", "_")
    return any(importlib.util.find_spec(one) is not None for one in {module, module.lower()})


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}".rstrip(": ")


@contextmanager
def quiet_engine() -> Iterator[None]:
    """Keep engines from logging the traceback of an error that is about to be told in words."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def told_in_words(path: Path, metadata: Mapping[str, Any], what: str) -> Iterator[None]:
    """Turn whatever a part of a bundle raises inside the block into one sentence (:func:`explain`)."""
    try:
        yield
    except (MedResNetError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise explain(path, metadata, what, error) from error
