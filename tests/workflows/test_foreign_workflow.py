from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d import Predictor
from medresnet3d.errors import BundleError, ConfigError, WeightsError
from medresnet3d.workflows.foreign_workflow import has_workflow
from tests.workflows import foreign_bundles as zoo
from tests.workflows.conftest import save_scan

WHOLE = """
import os

import nibabel
from monai.bundle import BundleWorkflow


class Copying(BundleWorkflow):
    def __init__(self, filename, output_dir, level):
        super().__init__(workflow_type="inference")
        self.filename, self.output_dir, self.level = filename, output_dir, level

    def initialize(self):
        assert os.path.isdir(self.output_dir)

    def run(self):
        image = nibabel.load(self.filename)
        mask = (image.get_fdata() > float(self.level)).astype("uint8")
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), self.output_dir + "/mask.nii.gz")

    def finalize(self):
        return None

    def _get_property(self, name, property):
        return None

    def _set_property(self, name, property, value):
        raise NotImplementedError
"""


def bundle(root: Path) -> Path:
    about = zoo.metadata("bright segmentation", {"0": "background", "1": "bright"})
    scripts = {"__init__.py": "", "run.py": WHOLE}
    return zoo.write(root, None, about, scripts=scripts, network=zoo.unet())


def test_a_workflow_without_parts_runs_as_a_whole(tmp_path: Path) -> None:
    array = save_scan(tmp_path / "scan.nii.gz", shape=(6, 5, 4))
    assert has_workflow(bundle(tmp_path / "copying"))
    predictor = Predictor(tmp_path / "copying", "cpu", True, level=100)
    np.testing.assert_array_equal(predictor(tmp_path / "scan.nii.gz").pred, array > 100)


def test_its_arguments(tmp_path: Path) -> None:
    bundle(tmp_path / "copying")
    with pytest.raises(BundleError, match="Copying needs the argument `level`; give it with --set level=VALUE"):
        Predictor(tmp_path / "copying", "cpu", True)
    with pytest.raises(ConfigError, match="has no argument of this name"):
        Predictor(tmp_path / "copying", "cpu", True, level=1, depth=2)


def test_its_weights_must_be_there(tmp_path: Path) -> None:
    bundle(tmp_path / "copying")
    (tmp_path / "copying" / "models" / "model.pt").unlink()
    with pytest.raises(WeightsError, match=r"python -m monai\.bundle download --name copying"):
        Predictor(tmp_path / "copying", "cpu", True, level=1)


def test_other_classes_are_no_workflow(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "a.py").write_text("class Workflow:\n    value = 1\n")
    assert not has_workflow(tmp_path)
