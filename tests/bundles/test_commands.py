"""The same, through the real command lines and in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medresnet3d.bundle.verify import METADATA_SCHEMA
from tests.bundles.conftest import BundleUnderTest, some

TWO = pytest.mark.parametrize("bundle", some("brain_tissue_voxresnet", "lung_nodule_cnn3d"), indirect=True)
ONE = pytest.mark.parametrize("bundle", some("lung_nodule_cnn3d"), indirect=True)


def run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


def bundle_run(bundle: BundleUnderTest, configs: list[str], folder: Path, *options: str) -> str:
    files = str([bundle.config(name) for name in configs]) if len(configs) > 1 else bundle.config(configs[0])
    common = ["--bundle_root", str(bundle.root), "--config_file", files, "--meta_file", bundle.metadata_file]
    return run(["-m", "monai.bundle", "run", *common, *options], folder)


@TWO
def test_train_evaluate_inference(bundle: BundleUnderTest, tmp_path: Path):
    data = ["--data", str(bundle.manifest)]
    bundle_run(bundle, ["train"], tmp_path, *data, "--max_epochs", "1", "--output_dir", str(tmp_path / "run"))
    assert (tmp_path / "run/checkpoints/best.pt").exists()
    bundle_run(bundle, ["train", "evaluate"], tmp_path, *data, "--output_dir", str(tmp_path / "eval"))
    bundle_run(bundle, ["inference"], tmp_path, "--input", str(bundle.manifest), "--output_dir", str(tmp_path / "out"))
    assert any((tmp_path / "out").iterdir())


@ONE
def test_two_processes_train_together(bundle: BundleUnderTest, tmp_path: Path):
    files = str([bundle.config("train"), bundle.config("multi_gpu_train")])
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "monai.bundle", "run"]
    where = ["--bundle_root", str(bundle.root), "--config_file", files, "--meta_file", bundle.metadata_file]
    what = ["--data", str(bundle.manifest), "--max_epochs", "1", "--output_dir", str(tmp_path / "run")]
    run([*launch, *where, *what], tmp_path)
    assert (tmp_path / "run/checkpoints/last.pt").exists()


@TWO
def test_verify_and_export(bundle: BundleUnderTest, tmp_path: Path):
    schema = tmp_path / "schema.json"
    schema.write_text(METADATA_SCHEMA.read_text())
    meta = ["--meta_file", bundle.metadata_file]
    inference = ["--net_id", "network_def", *meta, "--config_file", bundle.config("inference")]
    run(["-m", "monai.bundle", "verify_metadata", *meta, "--filepath", str(schema)], tmp_path)
    run(["-m", "monai.bundle", "verify_net_in_out", *inference, "--device", "cpu"], tmp_path)
    exported = ["--filepath", str(tmp_path / "model.ts"), "--ckpt_file", str(bundle.weights), "--use_trace", "True"]
    run(["-m", "monai.bundle", "ckpt_export", *inference, *exported], tmp_path)
    assert (tmp_path / "model.ts").stat().st_size > 0
