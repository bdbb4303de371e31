from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from medresnet3d.errors import BundleError
from medresnet3d.workflows.foreign_config import ForeignConfig, config_files, has_inference, use_modules_of
from tests.workflows import foreign_bundles as zoo


def folder(root: Path, *names: str) -> Path:
    (root / "configs").mkdir(parents=True)
    for name in names:
        (root / "configs" / name).write_text("{}")
    return root


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("inference.json", "train.json"), ("inference.json",)),
        (("inference.yaml", "inference_low.yaml"), ("inference.yaml",)),
        (("inference_segresnet.json", "train.json"), ("inference_segresnet.json",)),
        (("train.json", "evaluate.json"), ("train.json", "evaluate.json")),
        (("train.yml",), ("train.yml",)),
    ],
)
def test_the_files_that_describe_the_inference(tmp_path: Path, names: tuple[str, ...], expected: tuple[str]) -> None:
    bundle = folder(tmp_path, *names)
    assert config_files(bundle) == expected
    assert has_inference(bundle) is any(name.startswith("inference") for name in names)


def test_several_files_or_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"several files could describe .*inference_a\.json, inference_b\.json"):
        config_files(folder(tmp_path / "several", "inference_a.json", "inference_b.json"))
    with pytest.raises(BundleError, match=r"there is no inference\.json"):
        config_files(folder(tmp_path / "none", "metadata.json"))


def test_parts_are_found_by_what_the_evaluator_refers_to(tmp_path: Path) -> None:
    config = zoo.standard(zoo.unet(), zoo.loading(), zoo.post(zoo.ARGMAX))
    for old, new in (("preprocessing", "steps_before"), ("postprocessing", "steps_after"), ("network", "the_net")):
        config[new] = config.pop(old)
    config["dataset"]["transform"] = "@steps_before"
    config["engine"] = {
        **config.pop("evaluator"),
        "_target_": "monai.engines.SupervisedEvaluator",
        "network": "@the_net",
        "postprocessing": "@steps_after",
        "inferer": {"_target_": "SimpleInferer"},
    }
    found = ForeignConfig(zoo.write(tmp_path / "b", config, {}), {}, "cpu", tmp_path)
    assert found.evaluator == "engine" and found.plain_evaluator
    assert found.roles == {
        "network": "the_net",
        "inferer": "engine::inferer",
        "preprocessing": "steps_before",
        "postprocessing": "steps_after",
        "prepare_batch": None,
        "loader": "dataloader",
        "dataset": "dataset",
    }


def test_parts_of_a_training_configuration(tmp_path: Path) -> None:
    standard = zoo.standard(zoo.unet(), zoo.loading(keys=["image", "label"]), zoo.post(zoo.ARGMAX))
    moved = ("preprocessing", "dataset", "dataloader", "inferer", "postprocessing", "handlers", "evaluator")
    text = json.dumps({name: standard.pop(name) for name in moved})
    for name in moved:
        text = text.replace(f'"@{name}"', f'"@validate#{name}"')
    standard["validate"] = json.loads(text)
    bundle = zoo.write(tmp_path / "b", None, {}, files={"configs/train.json": standard})
    found = ForeignConfig(bundle, {}, "cpu", tmp_path)
    assert found.evaluator == "validate::evaluator"
    assert found.role("preprocessing") == "validate::preprocessing"
    assert found.role("postprocessing") == "validate::postprocessing"


def test_an_evaluator_of_a_special_kind_is_not_plain(tmp_path: Path) -> None:
    config = zoo.standard(zoo.unet(), zoo.loading(), zoo.post())
    config["evaluator"]["iteration_update"] = "$lambda engine, batch: None"
    assert not ForeignConfig(zoo.write(tmp_path / "a", config, {}), {}, "cpu", tmp_path).plain_evaluator


def test_two_folders_called_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("first", "second"):
        bundle = folder(tmp_path / name, "metadata.json")
        (bundle / "scripts").mkdir()
        (bundle / "scripts" / "__init__.py").write_text("")
        (bundle / "scripts" / "json.py").write_text("")
        (bundle / "scripts" / "which.py").write_text(f"NAME = {name!r}\n")
        use_modules_of(bundle)
        assert name == importlib.import_module("scripts.which").NAME
    assert sys.modules["json"] is json
