from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.layers.factories import Norm

import medresnet3d
import medresnet3d.networks
from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.errors import ConfigError, ExitCode
from medresnet3d.losses import build_loss
from medresnet3d.networks.classifier import ARCHITECTURES, build_classifier
from medresnet3d.networks.layers.activations import resolve_activation
from medresnet3d.optimizers import RULES, SCHEDULES
from medresnet3d.transforms.ct_augmentation import STRENGTHS
from medresnet3d.weights.cards import find_card
from medresnet3d.workflows.compare_grid import named_variants
from medresnet3d.workflows.compare_presets import Survey, _known_levels, preset_factor, presets, survey_presets
from medresnet3d.workflows.fetch_weights import fetch_weights
from tests.workflows.toy_bundle import write_cubes, write_toy_bundle

SETTINGS = [
    *(
        (name, level, {**presets()[name].get("set", {}), **ids})
        for name in presets()
        for level, ids in preset_factor(name).levels.items()
    ),
    *(("--vary regularisation", level, ids) for level, ids in named_variants()["regularisation"].items()),
]
BUNDLES = {"curriculum": "lung_nodule_multiview_resnet", "alignment": "alzheimer_msresnet"}
CHECKS: dict[str, Any] = {
    "activation": resolve_activation,
    "loss": lambda loss: build_loss(loss if isinstance(loss, str) else loss["name"]),
    "optimizer": RULES.__getitem__,
    "lr_scheduler": SCHEDULES.__getitem__,
    "normalisation": lambda norm: Norm[norm if isinstance(norm, str) else norm[0], 3],
    "augmentation": STRENGTHS.index,
    "arch": ARCHITECTURES.__getitem__,
    "pretrained": find_card,
}


@pytest.mark.parametrize(
    ("preset", "level", "ids"), SETTINGS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_presets_name_only_parts_that_exist_and_ids_that_a_bundle_has(
    preset: str, level: str, ids: dict[str, Any]
) -> None:
    for key, value in ids.items():
        if value is not None:
            CHECKS.get(key, lambda value: None)(value)
    load_config(find_bundle(BUNDLES.get(preset, "lung_nodule_cnn3d")), ("train.json",), ids)


@pytest.mark.parametrize("name", ["l_softmax", "a_softmax"])
def test_a_margin_is_reached_at_half_of_a_short_training(name: str) -> None:
    parser = load_config(find_bundle("lung_nodule_cnn3d"), ("train.json",), presets()["survey-losses"]["levels"][name])
    parser["steps"] = 60
    loss = parser.get_parsed_content("loss")
    assert float(loss.annealing(torch.tensor(0))) >= 100
    assert float(loss.annealing(torch.tensor(30))) == pytest.approx({"l_softmax": 1, "a_softmax": 5}[name])


def test_the_47_parts_of_the_survey_are_all_there() -> None:
    baselines = {"survey-regularisation": {"none"}, "survey-schedules": {"constant"}}
    extra = {"survey-activations": {"maxout_relu"}}  # Gan's double activation, beside the survey's nine
    counts = {
        name: len(preset["levels"].keys() - baselines.get(name, set()) - extra.get(name, set()))
        for name, preset in presets().items()
        if name in survey_presets()
    }
    assert counts == {
        "survey-activations": 9,
        "survey-losses": 12,
        "survey-optimisers": 9,
        "survey-schedules": 8,
        "survey-normalisation": 2,
        "survey-regularisation": 7,
    }
    assert sum(counts.values()) == 47


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'survey-losses'"):
        preset_factor("survey-loses")


def test_parts_that_a_bundle_does_not_have_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "survey-rates": {
            "title": "Rates",
            "factor": "rate",
            "levels": {"high": {"learning_rate": 0.01}, "low": {"learning_rate": 0.001}, "odd": {"oddness": 1}},
        },
        "survey-batches": {
            "title": "Batches",
            "factor": "batch",
            "levels": {"four": {"batch_size": 4}, "two": {"batch_size": 2}},
            "notes": ["Small ones."],
        },
    }
    monkeypatch.setattr("medresnet3d.workflows.compare_presets.presets", lambda: own)
    bundle, manifest = write_toy_bundle(tmp_path / "toy_cubes"), write_cubes(tmp_path / "data", cases=32)
    options: dict[str, Any] = {"seeds": 2, "budget": "3steps", "workers": 1}
    survey = medresnet3d.compare(bundle, manifest, tmp_path / "out", preset="survey-all", **options)
    assert isinstance(survey, Survey)
    assert survey.exit_code == ExitCode.OK
    assert [arm.name for arm in survey.parts["survey-rates"].summary.arms] == ["high", "low"]
    assert "odd was left out" in survey.parts["survey-rates"].report.read_text()
    assert "Small ones." in survey.parts["survey-batches"].report.read_text()
    overview = survey.report.read_text()
    assert 'href="survey-rates/report.html"' in overview and "Batches" in overview
    assert survey.conclusion.startswith("survey-rates: ")


@pytest.mark.slow
def test_the_whole_survey_runs_on_phantoms(tmp_path: Path) -> None:
    from medresnet3d.data.phantoms.cube_cohort import write_nodule_cubes

    manifest = Path(write_nodule_cubes(tmp_path / "data", cubes=18, size=32))
    survey = medresnet3d.compare(
        "lung_nodule_cnn3d", manifest, tmp_path / "out", preset="survey-all", seeds=1, budget="3steps", workers=2
    )
    assert isinstance(survey, Survey)
    errors = {
        f"{name}, {cell.arm.name}": cell.error
        for name, part in survey.parts.items()
        for cell in part.cells
        if cell.error
    }
    assert errors == {}
    shutil.rmtree(tmp_path / "out")


def test_the_lung_networks_are_six_of_about_a_million_parameters() -> None:
    counts = {}
    for level, ids in preset_factor("lung-networks").levels.items():
        with torch.device("meta"):
            network = load_config(find_bundle("lung_nodule_cnn3d"), ("inference.json",), ids).get_parsed_content(
                "network_def"
            )
        counts[level] = sum(parameter.numel() for parameter in network.parameters())
    assert set(counts) == {"densenet121", "xception", "resnet50", "mobilenet_v1", "vgg16", "vgg19"}
    assert all(abs(count - 1e6) < 1e5 for count in counts.values()), counts
    published = preset_factor("lung-networks-paper").levels
    assert {level: ids["arch"] for level, ids in published.items()} == {
        level: ids["arch"] for level, ids in preset_factor("lung-networks").levels.items()
    }


def test_transfer_needs_the_weights_on_this_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDRESNET3D_WEIGHTS", str(tmp_path / "store"))
    factor, common = preset_factor("transfer"), presets()["transfer"]["set"]
    with pytest.raises(ConfigError, match="run `medresnet3d weights fetch resnet18_imagenet` first"):
        _known_levels(factor, "lung_nodule_multiview_resnet", common, trust=False)
    card = replace(find_card("resnet18_imagenet"), sha256_prefix=None)
    monkeypatch.setattr("medresnet3d.workflows.fetch_weights.find_card", lambda name: card)
    torch.save(build_classifier("resnet18", 2, 3, 1000, width=0.03125).state_dict(), tmp_path / "file.pth")
    fetch_weights("resnet18_imagenet", tmp_path / "file.pth")
    known, notes = _known_levels(factor, "lung_nodule_multiview_resnet", common, trust=False)
    assert list(known.levels) == list(factor.levels) and notes == []


@pytest.mark.slow
def test_depth_and_curriculum_are_compared_on_nodules(tmp_path: Path) -> None:
    from medresnet3d.data.phantoms.lidc import write_nodule_cohort

    manifest = write_nodule_cohort(tmp_path / "data", 16, size=24)
    small = {"set": {"crop_size_mm": 20, "batch_size": 4, "share_weights": True}, "workers": 1, "budget": "2steps"}
    for name, arms in (("depth", 4), ("curriculum", 2)):
        comparison = medresnet3d.compare(
            *("lung_nodule_multiview_resnet", manifest, tmp_path / name), preset=name, seeds=2, **small
        )
        assert comparison.exit_code == ExitCode.OK and len(comparison.summary.arms) == arms
