"""Every part of the field survey is one value of a bundle's configuration: each name trains the lung bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data.phantoms.cube_cohort import write_nodule_cubes
from medresnet3d.engines import load_checkpoint
from medresnet3d.errors import ConfigError
from medresnet3d.losses.factory import FEATURE_LOSSES, LOGIT_LOSSES
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.fitting import inflate
from medresnet3d.networks.layers.activations import SURVEY
from medresnet3d.optimizers import RULES, SCHEDULES
from medresnet3d.workflows.train import train

BUNDLE = find_bundle("lung_nodule_cnn3d")
TINY = {
    "arch": "resnet10",
    "crop_size_mm": 16.0,
    "batch_size": 4,
    "steps": 2,
    "val_interval": 100,
    "device": "cpu",
    "train::handlers": [],
}
CHOICES = [
    *(("activation", name) for name in (*SURVEY, "maxout_relu")),
    *(("activation", ["elu", {"alpha": 0.5}]),),
    *(("normalisation", name) for name in ("batch", "batch_renorm", "instance", ["group", {"num_groups": 2}])),
    *(("optimizer", name) for name in RULES),
    *(("lr_scheduler", name) for name in SCHEDULES),
    *(("loss", name) for name in (*LOGIT_LOSSES, *FEATURE_LOSSES)),
    ("loss", {"name": "cosface", "margin": 0.2}),
    ("lr_scheduler", {"name": "cosine", "warmup": 1}),
    ("dropout", 0.3),
    ("dropconnect", 0.5),
    ("l1", 0.001),
    ("batch_size", "all"),
    *(("augmentation", name) for name in ("none", "light", "medium", "strong")),
    ("augmentation_mode", "batched"),
    ("training_fraction", 0.5),
]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nodule_cubes(tmp_path_factory.mktemp("cubes"), cubes=12, size=24, seed=0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("key", "value"), CHOICES, ids=[f"{key}={value}" for key, value in CHOICES])
def test_two_steps_with_every_part(key: str, value: Any, manifest: Path, tmp_path: Path) -> None:
    files = {"data": str(manifest), "output_dir": str(tmp_path)}
    # the last stage of a cube of 16 voxels is a single one, of which instance normalisation has no statistics
    larger = {"crop_size_mm": 24.0, "stem_stride": 1} if value == "instance" else {}
    parser = load_config(BUNDLE, ("train.json",), {**TINY, **files, **larger, key: value})
    parser.get_parsed_content("initialize")
    network = parser.get_parsed_content("network")
    before = {name: each.detach().clone() for name, each in network.named_parameters()}
    schedule = parser.get_parsed_content("lr_scheduler")
    trainer = parser.get_parsed_content("train#trainer")
    trainer.add_event_handler("ITERATION_COMPLETED", lambda: schedule.step())
    trainer.run()
    assert trainer.state.iteration == 2
    changed = [name for name, each in network.named_parameters() if not torch.equal(each, before[name])]
    assert "classifier.weight" in changed and any(name.startswith("conv1.") for name in changed)
    assert all(torch.isfinite(each).all() for each in network.state_dict().values())

    inference = load_config(BUNDLE, ("inference.json",), {**_shared(key, value), **larger})
    twin = inference.get_parsed_content("network_def")
    twin.load_state_dict(network.state_dict())
    image = torch.rand(2, 1, 24, 24, 24)
    with torch.inference_mode():
        answer = twin.eval()(image)
        assert answer.shape == (2, 2) and torch.isfinite(answer).all()
        assert torch.equal(answer, network.eval()(image))


def _shared(key: str, value: Any) -> dict[str, Any]:
    """What of the overrides belongs to the inference too."""
    shared = {"activation", "normalisation", "dropout", "dropconnect"}
    return {"arch": TINY["arch"], **({key: value} if key in shared else {})}


def test_the_ready_bundle_of_a_run_has_the_parts_that_were_chosen(manifest: Path, tmp_path: Path) -> None:
    chosen = ["activation=prelu", "normalisation=batch_renorm", "loss=cosface", "optimizer=nesterov"]
    tiny = [f"{key}={value}" for key, value in TINY.items() if key in ("arch", "crop_size_mm", "batch_size", "steps")]
    run = tmp_path / "run"
    train(BUNDLE, manifest, run, set=[*chosen, *tiny], device="cpu")
    network = load_network(run)
    assert any(isinstance(module, torch.nn.PReLU) for module in network.modules())
    assert not any(isinstance(module, torch.nn.ReLU) for module in network.modules())
    best = load_checkpoint(run / "checkpoints" / "best.pt")["network"]
    assert bool(best["classifier.unit_weights"]), "cosine logits at inference too"
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in best.items())
    entries = [load_config(run / "bundle", ("train.json",))[key] for key in ("loss", "optimizer")]
    assert [entry["name"] for entry in entries] == ["cosface", "nesterov"]
    assert entries[1]["lr"] == "@learning_rate"
    train(BUNDLE, manifest, run, set=[*chosen, *tiny], device="cpu", resume=True)
    with pytest.raises(ConfigError, match="loss::name was 'cosface' and is 'focal'"):
        train(BUNDLE, manifest, run, set=["loss=focal", *chosen[:2], chosen[3], *tiny], device="cpu", resume=True)


def test_a_training_starts_from_published_2d_weights_and_leaves_frozen_stages_alone(
    manifest: Path, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    flat = build_classifier("resnet10", 2, 3, 1000, size="slim").state_dict()
    published = tmp_path / "resnet10-imagenet.pth"
    torch.save({name.replace("classifier.", "fc."): tensor for name, tensor in flat.items()}, published)
    tiny = [f"{key}={value}" for key, value in TINY.items() if key in ("arch", "crop_size_mm", "batch_size", "steps")]
    start = [f"pretrained={published}", "freeze_until=stage2"]
    train(BUNDLE, manifest, tmp_path / "run", set=[*start, *tiny], device="cpu")
    published.unlink()
    trained = load_network(tmp_path / "run").state_dict()
    for name, tensor in flat.items():
        if name.startswith(("classifier", "layer3", "layer4")):
            continue
        if name.startswith("conv1"):
            tensor = tensor.sum(1, keepdim=True)
        expected = inflate(tensor, tensor.shape[-1]) if tensor.ndim == 4 else tensor
        assert torch.equal(trained[name], expected), name
    assert not torch.equal(trained["layer4.0.conv1.weight"], inflate(flat["layer4.0.conv1.weight"], 3))
    evaluation = load_config(tmp_path / "run" / "bundle", ("train.json", "evaluate.json"), {"device": "cpu"})
    assert evaluation.get_parsed_content("network") is evaluation.get_parsed_content("network_def")
