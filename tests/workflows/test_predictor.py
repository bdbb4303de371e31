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
from medresnet3d.inferers import SlidingWindowInferer
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
    assert Predictor(thresholder, phi="none")(tmp_path / "ct").patient is None
    assert Predictor(thresholder, phi="keep")(tmp_path / "ct").patient == "Jane Doe"
    named = {**inputs(tmp_path / "ct")[0], "patient": "P7"}
    assert Predictor(thresholder, phi="none")(named).patient is None
    with pytest.raises(ConfigError, match="--phi nobody: this choice is unknown"):
        Predictor(thresholder, phi="nobody")


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


def test_a_value_is_an_argument_or_an_id_but_not_two_things(thresholder: Path) -> None:
    chosen = Predictor(thresholder, set=["precision=bf16", "device=cpu"])
    assert (chosen.parts.precision.name, chosen.device.type) == ("bf16", "cpu")
    same = Predictor(thresholder, "cpu", precision="bf16", set={"precision": "bf16", "device": "cpu"})
    assert same.parts.precision.name == "bf16"
    with pytest.raises(ConfigError, match="precision is given twice: --precision fp32 and --set precision=bf16; leave"):
        Predictor(thresholder, precision="fp32", set={"precision": "bf16"})
    with pytest.raises(ConfigError, match="device is given twice: --device cpu and --set device=cuda; leave one"):
        Predictor(thresholder, "cpu", set={"device": "cuda"})
    with pytest.raises(ConfigError, match="weights is given twice: 1 and, in `set`, 2; leave one out"):
        Predictor(thresholder, weights=1, set={"weights": 2})
    for argument in ("exact", "phi", "series", "strict", "trust", "bundle"):
        with pytest.raises(ConfigError, match=f"no id '{argument}'"):
            Predictor(thresholder, set={argument: True})


def test_many_cases_are_answered_as_one_by_one(tmp_path: Path) -> None:
    """Preparing and inverting go on at the same time in transforms that note in themselves what they are doing."""
    predictor = Predictor(threshold_bundle(tmp_path / "resampling", spacing=1.0))
    files = [tmp_path / f"{number}.nii.gz" for number in range(12)]
    for number, file in enumerate(files):
        save_scan(file, seed=number, shape=(19 + number % 3, 23, 11 + number % 2))
    files.insert(5, tmp_path / "gone.nii.gz")
    threads = torch.get_num_threads()
    answers: list[Any] = list(predictor.predict_many(files))
    assert torch.get_num_threads() == threads
    assert isinstance(answers[5], DataError) and "no such file" in str(answers[5])
    for file, answer in zip(files, answers, strict=True):
        if file != files[5]:
            alone = predictor(file)
            np.testing.assert_array_equal(answer.pred, alone.pred)
            assert (answer.case, answer.volumes_ml, answer.warnings) == (alone.case, alone.volumes_ml, alone.warnings)
            assert answer.stage_seconds.keys() == {"reading", "preprocessing", "network", "answer"}
            assert answer.seconds == pytest.approx(sum(answer.stage_seconds.values()))


def test_many_points_of_one_scan(classifier: Path, scan: Path) -> None:
    predictor = Predictor(classifier)
    items = [{**inputs(scan, (12, -33, 60 + shift))[0], "case": str(shift)} for shift in range(5)]
    answers: list[Any] = list(predictor.predict_many(iter(items), keep_input=True))
    for item, answer in zip(items, answers, strict=True):
        alone = predictor(item, keep_input=True)
        assert answer.probabilities == alone.probabilities and answer.case == item["case"]
        assert alone.input_tensor is not None and torch.equal(answer.input_tensor, alone.input_tensor)


def test_steps_that_cannot_be_copied_are_shared(thresholder: Path, tmp_path: Path) -> None:
    class Uncopied:
        def __init__(self, step: Any) -> None:
            self.step = step

        def __call__(self, item: Any) -> Any:
            return self.step(item)

        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("only one of these")

    for number in range(4):
        save_scan(tmp_path / f"{number}.nii.gz", seed=number)
    files = sorted(tmp_path.glob("*.nii.gz"))
    predictor = Predictor(thresholder)
    expected = [predictor(file).pred for file in files]
    predictor.parts.answer = Uncopied(predictor.parts.answer)
    found: list[Any] = list(predictor.predict_many(files))
    for answer, pred in zip(found, expected, strict=True):
        np.testing.assert_array_equal(answer.pred, pred)


def test_a_closed_predictor_says_so(thresholder: Path, scan: Path) -> None:
    with Predictor(thresholder) as predictor:
        assert predictor(scan).pred is not None
    with pytest.raises(ConfigError, match="thresholder: this predictor is closed; make a new one"):
        predictor(scan)
    with pytest.raises(ConfigError, match="this predictor is closed"):
        list(predictor.predict_many([scan]))


SLIDING: dict[str, Any] = {
    "inferer::_target_": "medresnet3d.inferers.SlidingWindowInferer",
    "inferer::roi_size": 8,
    "inferer::precision": "fp32",
}


def test_a_sliding_window_answers_in_label_maps_where_the_bundle_takes_the_largest_channel(
    thresholder: Path, scan: Path
) -> None:
    expected = Predictor(thresholder)(scan)
    direct = Predictor(thresholder, **SLIDING)
    assert isinstance(direct.parts.inferer, SlidingWindowInferer) and direct.parts.inferer.output == "labels"
    np.testing.assert_array_equal(direct(scan).pred, expected.pred)
    exact = Predictor(thresholder, exact=True, **SLIDING)
    assert isinstance(exact.parts.inferer, SlidingWindowInferer) and exact.parts.inferer.output == "logits"
    answer = exact(scan)
    np.testing.assert_array_equal(answer.pred, expected.pred)
    assert answer.details["inference"]["strategy"] == "exact" and "inference" not in expected.details


def test_what_is_left_out_is_told(thresholder: Path, tmp_path: Path) -> None:
    array = np.zeros((40, 40, 40), np.float32)
    array[4:14, 5:15, 6:16] = save_scan(tmp_path / "small.nii.gz", shape=(10, 10, 10))
    nib.nifti1.save(nib.nifti1.Nifti1Image(array, np.diag([-1, -1, 1, 1])), tmp_path / "scan.nii.gz")
    skipping = {**SLIDING, "inferer::crop_foreground": True, "inferer::margin": 0}
    answer = Predictor(thresholder, **skipping)(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(answer.pred, array > THRESHOLD)
    (told,) = answer.warnings
    assert told.endswith("% of the image is empty; the network did not see it and its answer is background.")
    assert 80 < float(told.split(" %")[0]) < 99


def test_another_number_format(thresholder: Path, scan: Path) -> None:
    assert Predictor(thresholder, precision="bf16").parts.precision.name == "bf16"
    sliding = Predictor(thresholder, precision="fp32", **SLIDING)
    assert sliding(scan).details["inference"]["precision"] == "fp32"
    with pytest.raises(ConfigError, match='precision is "int4"'):
        Predictor(thresholder, precision="int4")
    with pytest.raises(ConfigError, match='"fp16" needs a CUDA device'):
        Predictor(thresholder, "cpu", precision="fp16")


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
    with pytest.raises(DataError, match="The network's output has values that are not finite"):
        Predictor(bundle, **SLIDING)(scan)


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
