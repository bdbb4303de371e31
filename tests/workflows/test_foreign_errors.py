"""A bundle that cannot run here says why in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medresnet3d import Predictor
from medresnet3d.errors import BundleError, ConfigError, DataError, MedResNetError, WeightsError
from medresnet3d.workflows.foreign_errors import explain, missing_packages, told_in_words
from tests.workflows import foreign_bundles as zoo
from tests.workflows.conftest import save_scan

Change = Callable[[zoo.Config], None]


def changed(root: Path, change: Change, weights: bool = True, **about: Any) -> Path:
    config = zoo.standard(zoo.unet(), zoo.loading(), zoo.post(zoo.ARGMAX, zoo.SAVING))
    change(config)
    names = {"0": "background", "1": "spleen"}
    bundle = zoo.write(root, config, {**zoo.metadata("spleen segmentation", names), **about}, network=zoo.unet())
    if not weights:
        (bundle / "models" / "model.pt").unlink()
    return bundle


def why(bundle: Path, kind: type[MedResNetError] = BundleError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        Predictor(bundle, "cpu", True, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500
    assert str(bundle) in text
    return text


def network(**values: Any) -> Change:
    return lambda config: config["network_def"].update(values)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (network(_target_="TorchVisionFCModel", model_name="resnet18"), "needs the package torchvision"),
        (network(_target_="generative.networks.nets.DiffusionModelUNet"), "package generative, which is not installed"),
        (network(_target_="generative.networks.nets.AutoencoderKL"), "pip install monai-generative"),
        (network(dimensions=3), "no argument `dimensions` any more (it was made for MONAI 1.3.0, here is"),
        (network(_target_="NoSuchNet"), "there is no component NoSuchNet"),
        (network(_target_="scripts.networks.Missing"), "its network cannot run here"),
        (lambda config: config["preprocessing"]["transforms"].append({"_target_": "Vanishedd"}), "no component Vanish"),
        (lambda config: config.update(network="$np.zeros(3)"), "is not a network"),
        (lambda config: config.update(network="$pandas_net(@device)"), "uses pandas_net, which is not installed"),
    ],
)
def test_one_sentence_says_what_is_missing(tmp_path: Path, change: Change, expected: str) -> None:
    assert expected in why(changed(tmp_path / "bundle", change))


def test_a_script_that_needs_a_package(tmp_path: Path) -> None:
    bundle = zoo.scripted(tmp_path / "bundle")
    (bundle / "scripts" / "networks.py").write_text("import timm_like_package\n")
    assert "it needs the package timm_like_package, which is not installed" in why(bundle)


def test_an_import_for_the_data_set_only_is_not_missed(tmp_path: Path) -> None:
    bundle = changed(tmp_path / "bundle", lambda config: config["imports"].append("$import absent_package as pd"))
    assert Predictor(bundle, "cpu", True).task == "segmentation"


def test_absent_weights_come_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    bundle = changed(tmp_path / "bundle", lambda config: None, weights=False)
    text = why(bundle, WeightsError)
    assert f"python -m monai.bundle download --name bundle --bundle_dir {tmp_path}" in text
    large = "large_files:\n- path: models/model.pt\n  url: https://example.org/model.pt\n"
    (bundle / "large_files.yml").write_text(large)
    text = why(bundle, WeightsError)
    assert f"python -m monai.bundle download_large_files --bundle_path {bundle}" in text
    assert "https://example.org/model.pt" in text


def test_a_bundle_that_makes_images_takes_no_scan(tmp_path: Path) -> None:
    def generate(config: zoo.Config) -> None:
        del config["preprocessing"], config["datalist"]
        config["dataset"] = {"_target_": "Dataset", "data": "$[torch.rand(64) for i in range(10)]"}

    assert "makes images out of noise and takes no scan" in why(changed(tmp_path / "bundle", generate))


def test_whole_slide_images_are_not_scans(tmp_path: Path) -> None:
    def tiles(config: zoo.Config) -> None:
        config["preprocessing"] = {"_target_": "Compose", "transforms": [{"_target_": "ToTensord", "keys": "image"}]}
        config["dataset"] = {"_target_": "MaskedPatchWSIDataset", "data": [], "patch_size": 8, "reader": "cuCIM"}
        config["dataset"]["transform"] = "@preprocessing"

    assert "reads whole-slide images" in why(changed(tmp_path / "bundle", tiles))


def test_a_prompt_that_a_scan_does_not_bring(tmp_path: Path) -> None:
    save_scan(tmp_path / "scan.nii.gz")
    click = {"_target_": "Lambda", "func": "$lambda item: {**item, 'clicks': item['guidance']}"}
    bundle = changed(tmp_path / "bundle", lambda config: config["preprocessing"]["transforms"].append(click))
    with pytest.raises(BundleError, match="it needs `guidance` for every case, which a scan alone does not bring"):
        Predictor(bundle, "cpu", True)(tmp_path / "scan.nii.gz")


def test_a_wrong_number_of_images(tmp_path: Path) -> None:
    keys = ["t1", "t2"]
    steps = zoo.loading({"_target_": "ConcatItemsd", "keys": keys, "name": "image"}, keys=keys)
    config = zoo.standard(zoo.unet(2), steps, zoo.post(zoo.ARGMAX))
    bundle = zoo.write(tmp_path / "two", config, zoo.metadata("lesions", {"0": "background", "1": "lesion"}, inputs=2))
    save_scan(tmp_path / "scan.nii.gz")
    with pytest.raises(DataError, match=r"takes 2 images a case \(t1, t2\), but 1 are given"):
        Predictor(bundle, "cpu", True)(tmp_path / "scan.nii.gz")


def test_an_unknown_id_to_set(tmp_path: Path) -> None:
    bundle = changed(tmp_path / "bundle", lambda config: None)
    with pytest.raises(ConfigError, match="did you mean 'output_dir'"):
        Predictor(bundle, "cpu", True, output_dri="x")


def test_no_configuration_for_inference(tmp_path: Path) -> None:
    bundle = changed(tmp_path / "bundle", lambda config: None)
    (bundle / "configs" / "inference.json").rename(bundle / "configs" / "search.json")
    assert "there is no inference.json" in why(bundle)


def test_packages_of_the_metadata() -> None:
    about = {"required_packages_version": {"nibabel": "5", "absent-package": "1", "pytorch-ignite": "0.4", "itk": "5"}}
    assert missing_packages({**about, "optional_packages_version": {"scikit-image": "0.2"}}) == ["absent-package"]


def test_an_error_of_ours_stays_as_it_is(tmp_path: Path) -> None:
    own = DataError("the scan is empty.")
    try:
        raise RuntimeError("applying transform") from own
    except RuntimeError as error:
        assert explain(tmp_path, {}, "its preprocessing", error) is own
    expected = pytest.raises(BundleError, match=r"its saver cannot run here \(ZeroDivisionError: by zero\)")
    with expected, told_in_words(tmp_path, {}, "its saver"):
        raise ZeroDivisionError("by zero")


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    bundle = changed(tmp_path / "bundle", lambda config: None)
    torch.save({"wrong": torch.zeros(2)}, bundle / "models" / "model.pt")
    with pytest.raises(WeightsError, match=r"the weights do not fit the network: .* is missing"):
        Predictor(bundle, "cpu", True)


def test_a_broken_configuration(tmp_path: Path) -> None:
    bundle = changed(tmp_path / "bundle", lambda config: None)
    (bundle / "configs" / "inference.json").write_text(json.dumps(["no", "object"]))
    with pytest.raises(BundleError):
        Predictor(bundle, "cpu", True)
