from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from monai.data import MetaTensor

from medresnet3d import Predictor
from medresnet3d.errors import BundleError
from medresnet3d.io import Volume, load, save_itk, save_nifti
from medresnet3d.workflows.foreign_files import read_results
from tests.workflows import foreign_bundles as zoo
from tests.workflows.conftest import OBLIQUE, orthogonal, save_scan


def test_every_kind_of_file_that_a_bundle_may_write(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    affine = orthogonal(OBLIQUE)
    (tmp_path / "case").mkdir()
    save_nifti(labels, affine, tmp_path / "case" / "case_seg.nii.gz")
    (only,) = read_results(tmp_path).values()
    assert isinstance(only, MetaTensor) and list(read_results(tmp_path)) == ["pred"]
    np.testing.assert_array_equal(only[0], labels)
    np.testing.assert_allclose(only.affine, affine, atol=1e-4)

    save_itk(labels, affine, tmp_path / "other.nrrd")
    np.save(tmp_path / "points.npy", np.ones((2, 3)))
    (tmp_path / "boxes.json").write_text(json.dumps([{"box": [1, 2]}]))
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    results = read_results(tmp_path)
    np.testing.assert_array_equal(results["case_seg"], results["other"])
    assert results["points"].shape == (2, 3)
    assert results["boxes"] == [{"box": [1, 2]}]
    assert results["table"] == [["a", "b"], ["1", "2"]]


def whole(root: Path, run: str) -> Path:
    """A bundle whose only way to read images is an expression."""
    config = {
        "imports": ["$import os", "$import shutil"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/workspace",
        "network_def": zoo.unet(),
        "dataset": {"_target_": "Dataset", "data": [{"image": "/workspace/case.nii.gz"}]},
        "run": [run],
    }
    return zoo.write(root, config, zoo.metadata("copy segmentation", {"0": "background", "1": "all"}))


def test_the_files_of_a_case_come_back_as_its_answer(tmp_path: Path) -> None:
    run = "$shutil.copy(@dataset[0]['image'], @output_dir + '/copy_' + os.path.basename(@dataset[0]['image']))"
    predictor = Predictor(whole(tmp_path / "copying", run), "cpu", True)
    mask = (np.random.default_rng(0).random((4, 5, 6)) > 0.5).astype(np.uint8)
    save_nifti(mask, orthogonal(OBLIQUE), tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(predictor(tmp_path / "mask.nii.gz").pred, mask)
    in_memory = Volume(load(tmp_path / "mask.nii.gz").array, orthogonal(OBLIQUE))
    np.testing.assert_array_equal(predictor(in_memory).pred, mask)


def test_a_bundle_that_writes_nothing(tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.nii.gz", shape=(4, 5, 6))
    with pytest.raises(BundleError, match="wrote no result into its output folder"):
        Predictor(whole(tmp_path / "silent", "$len(@dataset)"), "cpu", True)(tmp_path / "scan.nii.gz")
