"""What must answer at once imports nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medresnet3d.bundle.registry import list_bundles
from tests.bundle.small_bundle import write_bundle

HEAVY = ["torch", "monai", "numpy", "ignite", "scipy", "sklearn", "pandas", "nibabel", "SimpleITK", "matplotlib"]
PROBE = f"""
import json, sys
from medresnet3d.cli.main import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    code = end.code or 0
print("\\n" + json.dumps({{"code": code, "heavy": [name for name in {HEAVY} if name in sys.modules]}}))
"""


def _probe(*arguments: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["bundle", "list"],
        ["data", "list"],
        ["data", "show", "ham10000"],
        ["weights", "list"],
        ["weights", "show", "medicalnet_resnet18"],
        ["data", "cache", "info"],
        ["bundle", "show", list_bundles()[0].name],
        ["bundle", "inspect", list_bundles()[0].name],
        *(
            [verb, "--help"]
            for verb in (
                "demo",
                "infer",
                "train",
                "evaluate",
                "compare",
                "learning-curve",
                "bundle",
                "data",
                "weights",
                "doctor",
            )
        ),
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    assert _probe(*arguments) == {"code": 0, "heavy": []}


def test_inspection_of_a_strange_bundle_imports_nothing_heavy(tmp_path: Path) -> None:
    assert _probe("bundle", "inspect", str(write_bundle(tmp_path / "bundle"))) == {"code": 0, "heavy": []}


def test_refusal_of_a_strange_bundle_comes_before_anything_heavy(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "scripts.py").write_text("")
    assert _probe("bundle", "verify", str(folder)) == {"code": 2, "heavy": []}


def test_import_of_the_package_is_light() -> None:
    code = f"import medresnet3d, sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
