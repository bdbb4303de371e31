"""The wheel carries bundles and data manifests, and works outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[1]


def run(arguments: list[str | Path], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(a) for a in arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**clean, **environment},
        check=False,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    run(["git", "clone", "--quiet", REPOSITORY, source], folder)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*pip, "--wheel-dir", folder, source], folder)
    return next(folder.glob("*.whl"))


def use_outside_the_checkout(binaries: Path, folder: Path) -> None:
    """List the bundles and segment a small ellipsoid "brain" with the shipped weights."""
    listed = run([binaries / "medresnet3d", "bundle", "list"], folder).stdout
    assert "brain_tissue_voxresnet" in listed and "lung_nodule_cnn3d" in listed
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 140)] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    brain = np.where(radius < 0.95, 400 + 600 * (radius < 0.8) + 400 * (radius < 0.6), 0)
    nib.save(nib.Nifti1Image(brain.astype(np.int16), np.eye(4)), folder / "brain.nii.gz")
    run([binaries / "medresnet3d", "infer", "brain_tissue_voxresnet", "brain.nii.gz", "-o", "out"], folder)
    answer = nib.load(folder / "out" / "brain_seg.nii.gz")
    assert answer.shape == brain.shape
    assert set(np.unique(np.asarray(answer.dataobj))) <= {0, 1, 2, 3}
    assert (folder / "out" / "report.html").exists()


def test_wheel_works_beside_its_dependencies(wheel: Path, tmp_path: Path):
    run([sys.executable, "-m", "venv", tmp_path / "venv"], tmp_path)
    binaries = tmp_path / "venv" / "bin"
    run([binaries / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], tmp_path)
    own = Path(
        run(
            [binaries / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path
        ).stdout.strip()
    )
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    located = run([binaries / "python", "-c", "import medresnet3d; print(medresnet3d.__file__)"], tmp_path).stdout
    assert Path(located.strip()).is_relative_to(own)
    use_outside_the_checkout(binaries, tmp_path)


@pytest.mark.slow
def test_wheel_installs_into_a_bare_environment(wheel: Path, tmp_path: Path):
    run([sys.executable, "-m", "venv", tmp_path / "venv"], tmp_path)
    binaries = tmp_path / "venv" / "bin"
    constraints = REPOSITORY / "constraints.txt"
    run([binaries / "python", "-m", "pip", "install", "--quiet", "--constraint", constraints, wheel], tmp_path)
    use_outside_the_checkout(binaries, tmp_path)
