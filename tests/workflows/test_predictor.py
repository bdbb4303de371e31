from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medresnet3d import Predictor
from medresnet3d.data import inputs
from medresnet3d.data.phantoms.dicom import write_dicom_series
from medresnet3d.errors import (
    AmbiguousInputError,
    BundleError,
    ConfigError,
    DataError,
    GeometryError,
    UntrustedBundleError,
    WeightsError,
)
from medresnet3d.io import Volume, load
from tests.workflows.conftest import OBLIQUE, orthogonal, save_scan
from tests.workflows.tiny_bundles import THRESHOLD, cube_bundle, save_weights, threshold_bundle


def test_a_label_map_lies_on_the_input_s_own_grid(thresholder: Path, tmp_path: Path) -> None:
    array = save_scan(tmp_path / "scan.nii.gz")
    prediction = Predictor(thresholder)(tmp_path / "scan.nii.gz")
    assert prediction.pred is not None and prediction.pred.dtype == np.uint8
    np.testing.assert_array_equal(prediction.pred, array > THRESHOLD)
    voxel_ml = 3.0 * 1.2 * 0.9 / 1000
    assert prediction.volumes_ml["bright"] == pytest.approx((array > THRESHOLD).sum() * voxel_ml, rel=0.05)

    for name in ("answer.nii.gz", "answer.nii", "answer.nrrd", "answer.mha"):
        written = load(prediction.save(tmp_path / name), constant_ok=True)
        np.testing.assert_array_equal(written.array, array > THRESHOLD)
        np.testing.assert_allclose(written.affine, orthogonal(OBLIQUE), atol=1e-4)
    asked, given = (nib.nifti1.load(tmp_path / name) for name in ("scan.nii.gz", "answer.nii.gz"))
    assert asked.affine.tolist() == given.affine.tolist()


def test_resampling_is_undone_too(tmp_path: Path) -> None:
    bundle = threshold_bundle(tmp_path / "resampling", spacing=1.0)
    array = save_scan(tmp_path / "scan.nii.gz", shape=(31, 37, 29))
    prediction = Predictor(bundle)(tmp_path / "scan.nii.gz")
    assert prediction.pred is not None and prediction.pred.shape == array.shape
    assert (prediction.pred == (array > THRESHOLD)).mean() > 0.9


def test_a_case_may_be_a_volume_or_an_item(thresholder: Path, scan: Path) -> None:
    predictor = Predictor(thresholder)
    from_path = predictor(scan)
    from_volume = predictor(load(scan))
    (item,) = inputs(scan)
    from_item = predictor({**item, "patient": "P7"})
    for other in (from_volume, from_item):
        np.testing.assert_array_equal(other.pred, from_path.pred)
    assert (from_item.case, from_item.patient, from_path.patient) == ("scan", "P7", None)
    volume = load(scan)
    in_memory = predictor(Volume(volume.array, volume.affine))
    assert (in_memory.case, in_memory.path) == ("case", None)


def test_probabilities_are_those_of_the_network(classifier: Path, scan: Path) -> None:
    predictor = Predictor(classifier)
    assert (predictor.task, predictor.labels) == ("classification", ("vessel", "nodule"))
    volume = load(scan)
    centre = (volume.affine @ [9, 11, 5, 1])[:3]
    prediction = predictor(scan, position=centre, keep_input=True)
    assert prediction.input_tensor is not None and prediction.input_tensor.shape == (1, 16, 16, 16)
    with torch.no_grad():
        expected = predictor.network(prediction.input_tensor.as_tensor()[None]).softmax(1)[0]
    np.testing.assert_allclose(list(prediction.probabilities.values()), expected, atol=1e-6)
    assert prediction.label == ("vessel", "nodule")[int(expected.argmax())]
    assert prediction.position == pytest.approx(centre)
    elsewhere = predictor(scan, position=centre + np.array([3, 0, 0]))
    assert elsewhere.probabilities != prediction.probabilities


def test_a_regression_gives_a_value(tmp_path: Path, scan: Path) -> None:
    prediction = Predictor(cube_bundle(tmp_path / "regressor", regression=True))(scan, position=(12, -33, 60))
    assert isinstance(prediction.value, float) and np.isfinite(prediction.value)
    assert prediction.probabilities == {} and prediction.label is None
    saved = json.loads(prediction.save(tmp_path / "answer.json").read_text())
    assert saved["value"] == prediction.value
    with pytest.raises(DataError, match="the answer of a regression is no image"):
        prediction.save(tmp_path / "answer.nii.gz")


def test_a_point_that_is_missing_or_outside(classifier: Path, scan: Path) -> None:
    predictor = Predictor(classifier)
    with pytest.raises(AmbiguousInputError, match=r"whole scan.*--at x,y,z"):
        predictor(scan)
    with pytest.raises(DataError, match=r"outside of the scan, which covers x .* to .*, y .* to .*, z .* to .* mm"):
        predictor(scan, position=(500, 0, 0))


def test_a_dicom_patient_becomes_a_pseudonym(thresholder: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(-500, 500, (12, 10, 8)).astype(np.int16)
    write_dicom_series(tmp_path / "ct", array, np.diag([0.8, 0.7, 2.0, 1.0]), patient_id="Jane Doe")
    predictor = Predictor(thresholder)
    first, second = predictor(tmp_path / "ct"), predictor(tmp_path / "ct")
    assert first.patient == second.patient and str(first.patient).startswith("anon-")
    assert "Jane" not in json.dumps(first.answer())


def test_overrides_and_devices(thresholder: Path, scan: Path) -> None:
    def predictor(device: str = "cpu", **overrides: Any) -> Predictor:
        return Predictor(thresholder, device, **overrides)

    sliding: dict[str, Any] = {"inferer::_target_": "monai.inferers.SlidingWindowInferer", "inferer::roi_size": 8}
    np.testing.assert_array_equal(predictor(**sliding)(scan).pred, predictor()(scan).pred)
    with pytest.raises(ConfigError, match=r"no id 'infere'; did you mean 'inferer'\?"):
        predictor(infere=1)
    with pytest.raises(ConfigError, match="tpu"):
        predictor("tpu")
    wrong: dict[str, Any] = {"network_def::in_channels": "many"}
    with pytest.raises(BundleError, match=r"`network_def` in configs/inference\.json cannot be built"):
        predictor(**wrong)
    other: dict[str, Any] = {"network_def::out_channels": 5}
    with pytest.raises(WeightsError, match="do not fit the network"):
        predictor(**other)


def test_bundles_that_cannot_answer(tmp_path: Path, scan: Path) -> None:
    with pytest.raises(WeightsError, match="this bundle has no trained weights: train it with `medresnet3d train"):
        Predictor(threshold_bundle(tmp_path / "empty", weights=False))
    with pytest.raises(BundleError, match="No bundle is called 'brain_tisue_voxresnet'"):
        Predictor("brain_tisue_voxresnet")

    off_grid = threshold_bundle(tmp_path / "off_grid")
    config = json.loads((off_grid / "configs/inference.json").read_text())
    config["answer"]["transforms"].pop()
    (off_grid / "configs/inference.json").write_text(json.dumps(config))
    with pytest.raises(GeometryError, match=r"must bring the label map back to the input's own grid"):
        Predictor(off_grid)(scan)
    del config["answer"]
    (off_grid / "configs/inference.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="has no id `answer`"):
        Predictor(off_grid)

    unclear = threshold_bundle(tmp_path / "unclear")
    (unclear / "configs/metadata.json").write_text(json.dumps({"task": "magic"}))
    with pytest.raises(BundleError, match=r"`task` in configs/metadata\.json is 'magic'; infer knows segmentation"):
        Predictor(unclear)


def test_an_output_that_is_not_finite_is_no_answer(tmp_path: Path, scan: Path) -> None:
    bundle = threshold_bundle(tmp_path / "broken")
    save_weights(bundle, {"weight": torch.full((2, 1, 1, 1, 1), torch.nan), "bias": torch.zeros(2)})
    with pytest.raises(DataError, match="The network's output has values that are not finite"):
        Predictor(bundle)(scan)


def test_a_run_folder_is_a_bundle(tmp_path: Path, scan: Path) -> None:
    threshold_bundle(tmp_path / "run" / "bundle")
    assert Predictor(tmp_path / "run")(scan).pred is not None


def test_an_untrusted_bundle_is_not_run(tmp_path: Path, scan: Path) -> None:
    bundle = threshold_bundle(tmp_path / "stranger")
    mark = tmp_path / "ran"
    config = json.loads((bundle / "configs/inference.json").read_text())
    config["answer"]["transforms"].append({"_target_": "os.system", "command": f"touch {mark}"})
    (bundle / "configs/inference.json").write_text(json.dumps(config))
    with pytest.raises(UntrustedBundleError) as caught:
        Predictor(bundle)
    assert any("os.system" in finding for finding in caught.value.findings)
    assert not mark.exists()
