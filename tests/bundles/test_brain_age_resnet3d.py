"""What is special about this bundle: it estimates a number, and corrects its lean to the mean on validation cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.mri import healthy, person_phantom, write_brain_cohort
from medresnet3d.engines import load_checkpoint
from medresnet3d.io import save_nifti
from medresnet3d.networks.regressor import build_regressor
from medresnet3d.transforms.brain_grid import brain_age_inference
from medresnet3d.workflows.evaluate import evaluate
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import parameter_count

BUNDLE = find_bundle("brain_age_resnet3d")
QUICK = {"align": False, "grids": {"slim": [24, 28, 24]}, "voxel_sizes_mm": {"slim": 7.0}, "arch": "resnet10"}


def test_the_published_size_is_one_id() -> None:
    parser = load_config(BUNDLE, ("inference.json",), {"size": "paper"})
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert parameter_count(network) == 33_160_513
    assert parser.get_parsed_content("grid") == [91, 109, 91]
    assert parser.get_parsed_content("voxel_size_mm") == 2.0


def test_train_evaluate_and_report_a_regression(tmp_path: Path) -> None:
    """A run leaves its corrected weights in a ready bundle, whose answers are in years."""
    manifest = write_brain_cohort(tmp_path / "cohort", "ixi", "age", people=20, size=24, turn_degrees=0.0)
    run = train(BUNDLE, manifest, tmp_path / "run", device="cpu", set=QUICK | {"max_epochs": 8, "val_interval": 4})
    kept = load_checkpoint(run / "checkpoints" / "best.pt")["network"]
    shipped = torch.load(run / "bundle" / "models" / "model.pt", weights_only=True)
    assert {name: shipped[name].item() for name in ("slope", "intercept")} == {
        name: kept[name].item() for name in ("slope", "intercept")
    }
    found = evaluate(run, manifest, tmp_path / "out", device="cpu", n_boot=20)
    assert set(found) == {"mae", "r", "r2"} and found.cases == 4
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Bland-Altman" in report and "years" in report


def learn(manifest: Path, output: Path, shuffle: bool = False, **overrides: Any) -> tuple[np.ndarray, np.ndarray]:
    """Estimates of the test section, and its truth, after training with or without shuffled ages."""
    if shuffle:
        content = json.loads(manifest.read_text())
        ages = np.random.default_rng(0).permutation([entry["label"] for entry in content["training"]]).tolist()
        content["training"] = [entry | {"label": age} for entry, age in zip(content["training"], ages, strict=True)]
        manifest = manifest.with_name("shuffled.json")
        manifest.write_text(json.dumps(content))
    settings = {"data": str(manifest), "output_dir": str(output), "device": "cpu", "val_interval": 5, **overrides}
    parser = load_config(BUNDLE, ("train.json",), QUICK | settings)
    for part in ("initialize", "run"):
        parser.get_parsed_content(part)
    network, prepare = parser.get_parsed_content("network").eval(), parser.get_parsed_content("validate#preprocessing")
    listed = items(manifest, "test")
    with torch.inference_mode():
        answers = [network(prepare(item)["image"].as_tensor()[None]).item() for item in listed]
    return np.array(answers), np.array([item["label"] for item in listed])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The bias was not corrected")
def test_ventricles_tell_the_age_and_shuffled_ages_do_not(tmp_path: Path) -> None:
    manifest = write_brain_cohort(tmp_path / "cohort", "ixi", "age", people=100, size=28, turn_degrees=0.0)
    answers, truth = learn(manifest, tmp_path / "true", max_epochs=30)
    by_mean = np.abs(truth - truth.mean()).mean()
    assert np.abs(answers - truth).mean() < 0.6 * by_mean
    answers, _ = learn(manifest, tmp_path / "shuffled", shuffle=True, max_epochs=30)
    assert np.abs(answers - truth).mean() > 0.8 * by_mean


Brains = tuple[Tensor, Tensor]
"""Images (N, 1, i, j, k) and ages (N, 1)."""
RATES = (0.01, 0.03)
"""Learning rates of each arm. On seeds 10 to 12, where the setting was chosen, 0.003 was the best for neither."""


def posed(people: int, seed: int, align: bool, folder: Path) -> Brains:
    """Phantoms turned by up to 30 degrees about each axis, as the network sees them with or without alignment."""
    prepare, images, ages = brain_age_inference((24, 28, 24), 7.0, align=align), [], []
    for person in healthy(people, seed):
        phantom = person_phantom(person, 24, turn_degrees=30.0)
        save_nifti(phantom.image, phantom.affine, folder / "head.nii.gz")
        images.append(prepare({"image": str(folder / "head.nii.gz")})["image"].as_tensor())
        ages.append(person.age)
    return torch.stack(images), torch.tensor(ages)[:, None]


def error(train: Brains, test: Brains, seed: int, rate: float, steps: int) -> float:
    """Mean absolute error in years on unseen people."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = build_regressor("resnet10", 50.0, 18.0, spatial_dims=3, in_channels=1, width=0.125)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        part = torch.randperm(len(train[0]), generator=generator)[:16]
        loss = nn.functional.huber_loss(network.train()(train[0][part]), train[1][part], delta=5.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float((network.eval()(test[0]) - test[1]).abs().mean())


def gain_of_alignment(seed: int, folder: Path, people: tuple[int, int] = (60, 120), steps: int = 100) -> float:
    """By how many years the error falls when heads in random poses are aligned; the better of two rates for each."""
    errors = []
    for align in (False, True):
        train, test = (posed(count, 2 * seed + part, align, folder) for part, count in enumerate(people))
        errors.append(min(error(train, test, seed, rate, steps) for rate in RATES))
    print(f"seed {seed}: {errors[0]:.1f} years as they lie, {errors[1]:.1f} aligned")
    return errors[0] - errors[1]


@pytest.mark.slow
def test_alignment_lowers_the_error_on_heads_in_random_poses(tmp_path: Path) -> None:
    assert gain_of_alignment(0, tmp_path, (48, 60), 80) > 0.5


@pytest.mark.slow
def test_alignment_decides_over_five_seeds(tmp_path: Path) -> None:
    gains = np.array([gain_of_alignment(seed, tmp_path) for seed in range(5)])
    half = 2.776 * gains.std(ddof=1) / np.sqrt(5)
    print(f"{gains.mean():.1f} years in the mean, {gains.mean() - half:.1f} to {gains.mean() + half:.1f}")
    assert gains.mean() - half > 0
