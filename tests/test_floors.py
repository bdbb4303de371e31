"""The floor rule: imports only go down, and what must answer at once imports nothing heavy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import medresnet3d

PACKAGE = Path(medresnet3d.__file__).parent
FLOORS = {
    "__main__": 6,
    "cli": 5,
    "workflows": 4,
    "bundle": 3,
    "engines": 3,
    "inferers": 3,
    "reports": 3,
    "data": 2,
    "transforms": 2,
    "networks": 2,
    "losses": 2,
    "optimizers": 2,
    "metrics": 2,
    "io": 1,
    "errors": -1,  # what everything may raise lies under everything
    "names": 0,
    "weights": 1,
    "progress": 0,
    "reseeding": 0,
    "_version": 0,
    "_lazy": 0,
}
HEAVY = {"torch", "monai", "numpy", "ignite", "scipy", "sklearn", "nibabel", "SimpleITK", "itk", "pydicom", "skimage"}
LIGHT = [
    *sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("cli/*.py")),
    *sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("weights/*.py")),
    *sorted(f"bundle/{path.name}" for path in PACKAGE.glob("bundle/*.py") if path.name != "allow_list.py"),
    "errors.py",
    "names.py",
    "progress.py",
    "__init__.py",
]
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _imports(node: ast.AST, inside_functions: bool) -> Iterator[str]:
    """Names of the modules that are imported, those for the type checker aside."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are written in full"
            for alias in child.names:
                yield f"{child.module}.{alias.name}"
        elif not _is_type_checking(child) and (inside_functions or not isinstance(child, ast.FunctionDef)):
            yield from _imports(child, inside_functions)


def _tree(module: str) -> ast.AST:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


def _room(module: str) -> str:
    return module.partition("/")[0].removesuffix(".py")


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__.py"])
def test_imports_only_go_down(module: str) -> None:
    own = _room(module)
    for name in _imports(_tree(module), inside_functions=True):
        parts = name.split(".")
        if parts[0] != "medresnet3d" or len(parts) == 1 or parts[1] not in FLOORS:
            continue
        assert parts[1] == own or FLOORS[parts[1]] < FLOORS[own], f"{module} imports {name}"


def test_every_room_has_a_floor() -> None:
    rooms = {_room(module) for module in MODULES} - {"__init__"}
    assert rooms <= FLOORS.keys()


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    heavy = {name for name in _imports(_tree(module), inside_functions=False) if name.partition(".")[0] in HEAVY}
    assert not heavy
