"""Every bundle trains, evaluates, infers, verifies and exports under plain MONAI, from a folder that is not its own."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out

from medresnet3d.bundle.verify import METADATA_SCHEMA
from tests.bundles.conftest import BundleUnderTest

OVERLAYS = {"train": ["train"], "evaluate": ["train", "evaluate"], "inference": ["inference"]}
KIND = {"train": "train", "evaluate": "train", "inference": "infer"}


def workflow(bundle: BundleUnderTest, verb: str, output: Path, device: str = "cpu", **overrides: Any) -> ConfigWorkflow:
    source = {"input": str(bundle.manifest)} if verb == "inference" else {"data": str(bundle.manifest)}
    return ConfigWorkflow(
        config_file=[bundle.config(name) for name in OVERLAYS[verb]],
        meta_file=bundle.metadata_file,
        logging_file=False,
        workflow_type=KIND[verb],
        bundle_root=str(bundle.root),
        output_dir=str(output),
        device=f"$torch.device('{device}')",
        **source,
        **overrides,
    )


@pytest.fixture(autouse=True)
def _another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("verb", list(OVERLAYS))
def test_no_property_that_monai_asks_for_is_missing(bundle: BundleUnderTest, verb: str, tmp_path: Path):
    flow = workflow(bundle, verb, tmp_path / "out")
    flow.initialize()
    assert flow.check_properties() == []


def test_train_leaves_a_checkpoint_and_metrics(bundle: BundleUnderTest, tmp_path: Path):
    flow = workflow(bundle, "train", tmp_path / "run", max_epochs=1)
    flow.initialize()
    before = {k: v.clone() for k, v in flow.parser.get_parsed_content("network").state_dict().items()}
    flow.run()
    flow.finalize()
    after = torch.load(tmp_path / "run/checkpoints/last.pt", weights_only=True)["network"]
    assert any(not torch.equal(before[k], after[k]) for k in before)
    rows = list(csv.DictReader((tmp_path / "run/metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1"]


def test_evaluate_measures_every_case(bundle: BundleUnderTest, tmp_path: Path):
    flow = workflow(bundle, "evaluate", tmp_path / "eval")
    flow.initialize()
    flow.run()
    flow.finalize()
    assert flow.parser.get_parsed_content("validate#evaluator").state.metrics


def test_inference_leaves_an_answer_for_every_input(bundle: BundleUnderTest, tmp_path: Path):
    from medresnet3d.data import inputs

    flow = workflow(bundle, "inference", tmp_path / "answers")
    flow.initialize()
    flow.run()
    flow.finalize()
    cases = inputs(str(bundle.manifest))
    if bundle.metadata["task"] == "segmentation":
        assert len(list((tmp_path / "answers").rglob("*.nii.gz"))) == len(cases)
    else:
        rows = list(csv.DictReader((tmp_path / "answers/predictions.csv").open()))
        assert len(rows) == len(cases)


def test_metadata_is_valid_for_monai(bundle: BundleUnderTest, tmp_path: Path):
    schema = tmp_path / "schema.json"
    schema.write_text(METADATA_SCHEMA.read_text())
    verify_metadata(meta_file=bundle.metadata_file, filepath=str(schema))


def test_network_takes_and_gives_what_metadata_says(bundle: BundleUnderTest):
    verify_net_in_out(
        net_id="network_def",
        meta_file=bundle.metadata_file,
        config_file=bundle.config("inference"),
        device="cpu",
    )


def test_exported_network_gives_the_same_answer(bundle: BundleUnderTest, tmp_path: Path):
    from monai.bundle import ConfigParser

    inputs = json.loads(Path(bundle.metadata_file).read_text())["network_data_format"]["inputs"]["image"]
    shape = [1, inputs["num_channels"], *(s if isinstance(s, int) else 32 for s in inputs["spatial_shape"])]
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(bundle.weights),
        meta_file=bundle.metadata_file,
        config_file=bundle.config("inference"),
        use_trace=True,
        input_shape=shape,
    )
    parser = ConfigParser()
    parser.read_config(bundle.config("inference"))
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in torch.load(bundle.weights, weights_only=True).items()}
    )
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(torch.jit.load(tmp_path / "model.ts").eval()(image), network(image), atol=1e-4)
