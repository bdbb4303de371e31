"""The tutorial runs as it stands, and the documentation builds without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from medresnet3d.bundle.registry import list_bundles

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NUMBERS = ("None", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")


def test_the_readme_counts_the_bundles_with_weights() -> None:
    count = sum((bundle.path / "models" / "model.pt").exists() for bundle in list_bundles())
    assert f"{NUMBERS[count]} come with trained weights" in (ROOT / "README.md").read_text(encoding="utf-8")


def python_blocks(page: Path) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))


@pytest.mark.slow
def test_first_steps_runs(tmp_path: Path):
    script = python_blocks(DOCS / "tutorials" / "first-steps.md")
    assert script.count("import") >= 5
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "points to train on" in done.stdout and "AUC" in done.stdout
    assert "(1, 4, 32, 32, 32)" in done.stdout
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_documentation_builds_without_a_warning(tmp_path: Path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path / "html"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "html" / "index.html").exists()
