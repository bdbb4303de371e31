from __future__ import annotations

import copy
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medresnet3d import Predictor
from medresnet3d.workflows.foreign_engine import EngineParts, OneCase
from tests.workflows import foreign_bundles as zoo
from tests.workflows import foreign_bundles_special as special
from tests.workflows.conftest import save_scan

DETECTOR = """
import torch
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys


class BoxEvaluator(SupervisedEvaluator):
    def _iteration(self, engine, batchdata):
        images = [item["image"].to(engine.state.device) for item in batchdata]
        found = {"box": torch.tensor([[0.0, 0, 0, 2, 4, 6]]), "score": torch.tensor([0.5])}
        engine.state.output = [{CommonKeys.IMAGE: image, CommonKeys.PRED: found} for image in images]
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output
"""


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    save_scan(tmp_path / "scan.nii.gz", shape=(12, 10, 8))
    return tmp_path / "scan.nii.gz"


def test_case_after_case_through_the_bundle_s_own_engine(tmp_path: Path, scan: Path) -> None:
    save_scan(tmp_path / "other.nii.gz", seed=3, shape=(12, 10, 8))
    predictor = Predictor(special.prompted(tmp_path / "prompted"), "cpu", True, input_dict={"label_prompt": [3]})
    for file, prediction in zip(
        [scan, tmp_path / "other.nii.gz"], predictor.predict_many([scan, tmp_path / "other.nii.gz"]), strict=True
    ):
        array = np.asarray(nib.loadsave.load(file).dataobj)  # type: ignore[attr-defined]
        assert not isinstance(prediction, Exception)
        np.testing.assert_array_equal(prediction.pred, 3 * (array > zoo.LEVEL / 2))


def test_boxes_and_their_postprocessing_outside_the_engine(tmp_path: Path, scan: Path) -> None:
    doubled = {"_target_": "Lambdad", "keys": "box", "func": "$lambda box: box * 2"}
    config = zoo.standard(zoo.unet(), zoo.loading(), zoo.post(doubled), {"_target_": "SimpleInferer"})
    config["dataloader"]["collate_fn"] = "$monai.data.utils.no_collation"
    config["evaluator"] |= {"_target_": "scripts.boxes.BoxEvaluator", "decollate": False}
    del config["evaluator"]["postprocessing"]
    scripts = {"__init__.py": "", "boxes.py": DETECTOR}
    about = zoo.metadata("nodule detection", {"0": "nodule"}, kind="box")
    prediction = Predictor(zoo.write(tmp_path / "boxes", config, about, scripts=scripts), "cpu", True)(scan)
    assert prediction.details["pred_box"] == [[0, 0, 0, 4, 8, 12]] and prediction.details["pred_score"] == [0.5]


def test_an_engine_is_not_copied() -> None:
    with pytest.raises(TypeError):
        copy.deepcopy(EngineParts.__new__(EngineParts))
    loader = OneCase()
    loader.batch = "case"
    assert len(loader) == 1 and list(loader) == ["case"]
