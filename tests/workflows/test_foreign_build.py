"""Bundles in the style of the MONAI Model Zoo, through the predictor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from medresnet3d import Predictor
from medresnet3d.errors import UntrustedBundleError
from medresnet3d.inferers import SlidingWindowInferer
from medresnet3d.io import Volume
from tests.workflows import foreign_bundles as zoo
from tests.workflows import foreign_bundles_special as special
from tests.workflows.conftest import OBLIQUE, orthogonal, save_scan

SHAPE = (20, 23, 17)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scans")
    for index in range(4):
        save_scan(folder / f"scan_{index}.nii.gz", seed=index, shape=SHAPE)
    return sorted(folder.glob("*.nii.gz"))


def picture(channels: int = 3) -> Volume:
    values = np.random.default_rng(0).integers(0, 255, (24, 30, 1, channels)[: 4 if channels > 1 else 3])
    return Volume(values.astype(np.uint8), np.eye(4))


def answer(bundle: Path, case: Any, **options: Any) -> Any:
    return Predictor(bundle, "cpu", True, **options)(case)


def run_with_monai(bundle: Path, scan: Path, folder: Path) -> np.ndarray:
    """The label map that MONAI itself writes."""
    (folder / "imagesTs").mkdir(parents=True)
    (folder / "imagesTs" / scan.name).write_bytes(scan.read_bytes())
    workflow = ConfigWorkflow(
        str(bundle / "configs" / "inference.json"),
        str(bundle / "configs" / "metadata.json"),
        logging_file=False,  # type: ignore[arg-type]
        workflow_type="inference",
        bundle_root=str(bundle),
        dataset_dir=str(folder),
        output_dir=str(folder / "out"),
        **{"dataloader#num_workers": 0, "evaluator#amp": False},
    )
    workflow.initialize()
    workflow.run()
    (written,) = (folder / "out").rglob("*.nii.gz")
    image: Any = nib.loadsave.load(written)
    np.testing.assert_allclose(image.affine, nib.loadsave.load(scan).affine, atol=1e-4)  # type: ignore[attr-defined]
    return np.asarray(image.dataobj)


def test_exact_is_what_monai_writes_and_fast_is_close(tmp_path: Path, scans: list[Path]) -> None:
    bundle = zoo.spleen(tmp_path / "spleen")
    expected = run_with_monai(bundle, scans[0], tmp_path / "data")
    assert 0.05 < (expected == 1).mean() < 0.95
    exact = answer(bundle, scans[0], exact=True)
    np.testing.assert_array_equal(exact.pred, expected)
    assert exact.labels == ("background", "spleen")
    assert exact.details["inference"]["strategy"] == "exact"
    assert exact.details["inference"]["reason"] == "the bundle's own SlidingWindowInferer"
    predictor = Predictor(bundle, "cpu", True)
    assert isinstance(predictor.parts.inferer, SlidingWindowInferer)
    fast = predictor(scans[0])
    assert (fast.pred == expected).mean() > 0.97
    assert fast.volumes_ml["spleen"] == pytest.approx(exact.volumes_ml["spleen"], rel=0.1)
    assert not (bundle / "eval").exists()


def test_several_cases_at_once_give_the_same_answers(tmp_path: Path, scans: list[Path]) -> None:
    predictor = Predictor(zoo.scripted(tmp_path / "scripted"), "cpu", True)
    for scan, prediction in zip(scans, predictor.predict_many(scans), strict=True):
        array = np.asarray(nib.loadsave.load(scan).dataobj)  # type: ignore[attr-defined]
        assert not isinstance(prediction, Exception)
        np.testing.assert_array_equal(prediction.pred, array * 2 > zoo.LEVEL)


def test_the_answer_of_the_bundle_s_own_code_lies_on_the_oblique_grid(tmp_path: Path, scans: list[Path]) -> None:
    prediction = answer(zoo.scripted(tmp_path / "scripted"), scans[1])
    array = np.asarray(nib.loadsave.load(scans[1]).dataobj)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(prediction.pred, array * 2 > zoo.LEVEL)
    np.testing.assert_allclose(prediction.affine, orthogonal(OBLIQUE), atol=1e-4)


def test_without_an_inversion_the_answer_comes_back_by_its_affine(tmp_path: Path, scans: list[Path]) -> None:
    bundle = zoo.scripted(tmp_path / "scripted", zoo.post(zoo.ARGMAX, zoo.SAVING))
    array = np.asarray(nib.loadsave.load(scans[1]).dataobj)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(answer(bundle, scans[1]).pred, array * 2 > zoo.LEVEL)


def test_two_bundles_may_both_have_scripts(tmp_path: Path, scans: list[Path]) -> None:
    first = Predictor(zoo.scripted(tmp_path / "first"), "cpu", True)
    second = Predictor(special.prompted(tmp_path / "second"), "cpu", True)
    array = np.asarray(nib.loadsave.load(scans[0]).dataobj)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(first(scans[0]).pred, array * 2 > zoo.LEVEL)
    prediction = second(scans[0])
    np.testing.assert_array_equal(prediction.pred, 57 * (array > zoo.LEVEL / 2))
    assert [name for name, volume in prediction.volumes_ml.items() if volume] == ["rib"]
    assert len(prediction.labels) == 58
    assert second.parts.notes == ["Each case got label_prompt=[57] from the bundle's own example; --set changes it."]


def test_weights_through_handler_zero_and_evaluating(tmp_path: Path, scans: list[Path]) -> None:
    prediction = answer(zoo.with_handler_zero(tmp_path / "pancreas"), scans[0])
    assert prediction.pred.shape == SHAPE
    assert prediction.labels == ("background", "pancreas", "tumor")


def test_four_modalities_and_structures_that_overlap(tmp_path: Path, scans: list[Path]) -> None:
    prediction = answer(zoo.brats(tmp_path / "brats"), list(scans))
    assert prediction.labels == ("background", "tumor core", "whole tumor", "enhancing tumor")
    assert set(prediction.images) == {"tumor_core", "whole_tumor", "enhancing_tumor"}
    voxel_ml = abs(np.linalg.det(prediction.affine[:3, :3])) / 1000
    for number, (name, image) in enumerate(prediction.images.items(), start=1):
        assert image.shape == SHAPE
        assert prediction.volumes_ml[name.replace("_", " ")] == pytest.approx(image.sum() * voxel_ml)
        assert not ((prediction.pred == number) & (image == 0)).any()
    assert any("overlap" in warning for warning in prediction.warnings)


def test_105_classes_as_labels_are_those_of_the_probabilities(tmp_path: Path, scans: list[Path]) -> None:
    bundle = zoo.whole_body(tmp_path / "body")
    predictor = Predictor(bundle, "cpu", True)
    assert predictor.parts.inferer.output == "labels"  # type: ignore[attr-defined]
    assert len(predictor.labels) == 105
    exact = answer(bundle, scans[0], exact=True)
    assert (predictor(scans[0]).pred == exact.pred).mean() > 0.9


def test_cases_too_large_for_memory_become_labels_before_resampling(
    tmp_path: Path, scans: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = zoo.spleen(tmp_path / "spleen")
    usual = answer(bundle, scans[0])
    monkeypatch.setattr("medresnet3d.workflows.foreign_parts.available_bytes", lambda device: 1000)
    small = answer(bundle, scans[0])
    assert (small.pred == usual.pred).mean() > 0.75  # the scan is noise, so that much of it is border
    assert any("before it was resampled" in warning for warning in small.warnings)
    assert not any("before it was resampled" in warning for warning in usual.warnings)


def test_crops_and_largest_components(tmp_path: Path, scans: list[Path]) -> None:
    from scipy.ndimage import label

    prediction = answer(zoo.prostate(tmp_path / "prostate"), scans[0])
    assert prediction.pred.shape == SHAPE
    for value in (1, 2):
        assert label(prediction.pred == value, np.ones((3, 3, 3)))[1] == 1


def test_an_architecture_in_a_file_of_arrays(tmp_path: Path, scans: list[Path]) -> None:
    prediction = answer(special.searched(tmp_path / "searched"), scans[0])
    assert prediction.pred.shape == SHAPE
    assert prediction.pred.max() == 2


def test_a_python_workflow(tmp_path: Path, scans: list[Path]) -> None:
    python = answer(special.python_only(tmp_path / "python"), scans[0], exact=True)
    assert python.pred.shape == SHAPE
    assert set(np.unique(python.pred)) == {0, 1}
    finer = answer(tmp_path / "python", scans[0], exact=True, overlap=0.6)
    assert 0.8 < (finer.pred == python.pred).mean() < 1


def test_a_bundle_that_can_only_run_as_a_whole(tmp_path: Path, scans: list[Path]) -> None:
    prediction = answer(special.landmarks(tmp_path / "points"), scans[0])
    array = np.asarray(nib.loadsave.load(scans[0]).dataobj)  # type: ignore[attr-defined]
    assert prediction.task == "regression"
    assert prediction.details["pred"] == [list(np.unravel_index(array.argmax(), array.shape))]


@pytest.mark.parametrize("channels", [3, 4, 1])
def test_photographs(tmp_path: Path, channels: int) -> None:
    tools = answer(zoo.endoscopy(tmp_path / "tools"), picture(channels))
    assert tools.pred.shape == (24, 30, 1)
    place = answer(zoo.endoscopy(tmp_path / "place", classify=True), picture(channels))
    assert place.task == "classification"
    assert sum(place.probabilities.values()) == pytest.approx(1)
    assert place.label == max(place.probabilities, key=lambda name: place.probabilities[name])


def test_several_outputs_and_two_maps(tmp_path: Path) -> None:
    prediction = answer(special.cells(tmp_path / "cells"), picture())
    assert prediction.labels == ("background", "inflammatory", "epithelial")
    assert prediction.pred.max() <= 2
    np.testing.assert_array_equal(prediction.images["instance_map"].ravel(), np.arange(24 * 30))


def test_a_network_of_slices_goes_through_a_volume(tmp_path: Path, scans: list[Path]) -> None:
    config = zoo.standard(
        zoo.unet(dims=2), zoo.loading(), zoo.post(zoo.ARGMAX, zoo.SAVING), {"_target_": "SimpleInferer"}
    )
    about = zoo.metadata("ventricle segmentation", {"0": "background", "1": "pool"}, dims=2)
    bundle = zoo.write(tmp_path / "slices", config, about)
    predictor = Predictor(bundle, "cpu", True)
    even = Volume(np.random.default_rng(0).normal(100, 50, (16, 20, 5)).astype(np.float32), orthogonal(OBLIQUE))
    prediction = predictor(even)
    assert prediction.pred is not None and prediction.pred.shape == (16, 20, 5)
    for k in range(5):
        image = torch.as_tensor(even.array[:, :, k])[None, None]
        with torch.no_grad():
            expected = predictor.network(image)[0].argmax(0)
        np.testing.assert_array_equal(prediction.pred[:, :, k], expected)


def test_a_slice_inferer_takes_the_volume_itself(tmp_path: Path) -> None:
    inferer = {"_target_": "SliceInferer", "roi_size": [16, 16], "spatial_dim": 2}
    config = zoo.standard(zoo.unet(dims=2), zoo.loading(), zoo.post(zoo.ARGMAX, zoo.SAVING), inferer)
    about = zoo.metadata("ventricle segmentation", {"0": "background", "1": "pool"}, dims=2)
    bundle = zoo.write(tmp_path / "slices", config, about)
    even = Volume(np.random.default_rng(0).normal(100, 50, (16, 20, 3)).astype(np.float32), np.eye(4))
    assert answer(bundle, even).pred.shape == (16, 20, 3)


def test_three_keys_take_three_scans(tmp_path: Path, scans: list[Path]) -> None:
    keys = ["artery", "vein", "excret"]
    steps = zoo.loading({"_target_": "ConcatItemsd", "keys": keys, "name": "image"}, keys=keys)
    network = {
        "_target_": "SegResNet",
        "in_channels": 3,
        "init_filters": 8,
        "norm_name": "group",
        "blocks_down": [1, 1],
    }
    network |= {"blocks_up": [1], "out_channels": 2}
    config = zoo.standard(network, steps, zoo.post(zoo.ARGMAX, {**zoo.inverting(True), "orig_keys": "artery"}))
    fitting = {key: value for key, value in network.items() if key != "norm_name"}
    about = zoo.metadata("renal structures", {"0": "background", "1": "kidney"}, inputs=3)
    bundle = zoo.write(tmp_path / "renal", config, about, network=fitting)
    predictor = Predictor(bundle, "cpu", True)
    assert predictor(scans[:3]).pred.shape == SHAPE  # type: ignore[union-attr]
    assert predictor.parts.notes == ["The argument `norm_name` of SegResNet is gone from MONAI and was left out."]


def test_values_of_the_configuration_can_be_set(tmp_path: Path, scans: list[Path]) -> None:
    bundle = zoo.spleen(tmp_path / "spleen")
    predictor = Predictor(bundle, "cpu", True, **{"inferer::overlap": 0.25})
    assert predictor.parts.inferer.overlap == 0.25  # type: ignore[attr-defined]


def test_nothing_of_an_untrusted_bundle_is_imported(tmp_path: Path) -> None:
    bundle = zoo.scripted(tmp_path / "stranger")
    mark = tmp_path / "ran"
    (bundle / "scripts" / "__init__.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    with pytest.raises(UntrustedBundleError):
        Predictor(bundle, "cpu")
    assert not mark.exists()


def test_a_harmless_bundle_needs_no_trust(tmp_path: Path, scans: list[Path]) -> None:
    assert Predictor(zoo.with_handler_zero(tmp_path / "pancreas"), "cpu")(scans[0]).pred is not None


MAKERS: list[Callable[[Path], Path]] = [zoo.spleen, zoo.scripted, special.prompted]


@pytest.mark.parametrize("make", MAKERS)
def test_a_dicom_series_is_as_good_as_a_file(make: Callable[[Path], Path], tmp_path: Path) -> None:
    from medresnet3d.data.phantoms.dicom import write_dicom_series
    from medresnet3d.io import load

    array = np.random.default_rng(0).integers(0, 200, (16, 18, 6)).astype(np.int16)
    write_dicom_series(tmp_path / "series", array, np.diag([-1.0, -1.0, 2.0, 1.0]))
    scan = load(tmp_path / "series")
    predictor = Predictor(make(tmp_path / "bundle"), "cpu", True)
    from_dicom, from_memory = predictor(tmp_path / "series"), predictor(Volume(scan.array, scan.affine))
    np.testing.assert_array_equal(from_dicom.pred, from_memory.pred)
