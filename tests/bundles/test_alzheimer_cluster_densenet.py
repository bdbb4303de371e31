"""What is special about this bundle: clusters fitted on training cases alone, regions by themselves, then all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from medresnet3d.bundle.load import load_config, load_network
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import SeededDataset, items
from medresnet3d.data.phantoms.mri import write_brain_cohort
from medresnet3d.engines import load_checkpoint
from medresnet3d.engines.cluster_fit import Descent, FitPatchClusters
from medresnet3d.engines.region_importance import region_importance
from medresnet3d.workflows.predictor import Predictor
from medresnet3d.workflows.train import train
from tests.bundles.as_configured import network_of, parameter_count

BUNDLE = find_bundle("alzheimer_cluster_densenet")
TINY: dict[str, Any] = {
    "voxel_sizes_mm": {"slim": 8.0},
    "grids": {"slim": [21, 24, 21]},
    "patch_sizes": {"slim": 8},
    "descriptor_sizes": {"slim": 4},
    "stem_stride": 1,
    "clusters": 2,
    "components": 8,
    "align": False,
    "max_epochs": 1,
    "stage_epochs": 1,
    "batch_size": 4,
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brains")
    return write_brain_cohort(folder, "adni", "alzheimer", people=18, size=24, turn_degrees=0.0)


@pytest.fixture(scope="module")
def run(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(BUNDLE, manifest, tmp_path_factory.mktemp("run") / "run", set=TINY, device="cpu")


def clusters(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network.state_dict().items() if ".clusters." in name}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(("size", "clusters", "parameters"), [("slim", 2, 368_498), ("paper", 3, 6_395_546)])
def test_the_published_size_is_one_id_away(size: str, clusters: int, parameters: int) -> None:
    network = network_of(BUNDLE, size=size)
    assert parameter_count(network) == parameters
    assert [len(network.regions), len(network.regions[0].trunks)] == [27, clusters]


def test_the_ready_bundle_assigns_patches_as_the_training_did(run: Path, manifest: Path) -> None:
    """Fitted before the first stage, and no stage, training or export has moved them."""
    first = load_checkpoint(run / "stages" / "clusters.pt")["network"]
    ready = load_network(run)
    assert equal({name: first[name] for name in clusters(ready)}, clusters(ready))
    assert all(bool(region.clusters.ready) for region in ready.regions)
    assert not equal(
        {n: v for n, v in first.items() if "trunks" in n},
        {n: v for n, v in ready.state_dict().items() if "trunks" in n},
    )
    prediction = Predictor(run, device="cpu")(items(manifest, "test")[0]["image"])
    assert set(prediction.probabilities) == {"CN", "AD"}


@pytest.mark.parametrize(("size", "on_disk"), [("slim", False), ("paper", True)])
def test_prepared_scans_are_kept_on_disk_at_the_published_size(
    size: str, on_disk: bool, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the paper's 831 people they would fill 5.3 GB of memory; no folder is named, so it is the user's own."""
    monkeypatch.setenv("MEDRESNET3D_HOME", str(tmp_path))
    parser = load_config(BUNDLE, ("train.json",), {"data": str(manifest), "size": size, "align": False})
    shape = tuple(parser.get_parsed_content("grid"))
    for part in ("stage_dataset", "train#dataset", "validate#dataset"):
        before = len(list(tmp_path.rglob("*.entry")))
        assert parser.get_parsed_content(part)[0]["image"].shape == (1, *shape)
        assert (len(list(tmp_path.rglob("*.entry"))) > before) == on_disk, part


def fitted(manifest: Path, folder: Path) -> dict[str, torch.Tensor]:
    overrides = {**TINY, "data": str(manifest), "output_dir": str(folder), "device": "cpu"}
    parser = load_config(BUNDLE, ("train.json",), overrides)
    parser.get_parsed_content("initialize")
    network = parser.get_parsed_content("network")
    stage = parser.get_parsed_content("stages_before")[0]
    assert isinstance(stage.fit, FitPatchClusters)
    stage.fit(network, folder)
    return clusters(network)


def test_the_clusters_see_training_people_and_no_others(manifest: Path, tmp_path: Path) -> None:
    """Other images in the place of those held out change nothing; another one to train on does."""
    copy = tmp_path / "copy"
    shutil.copytree(manifest.parent, copy)
    expected = fitted(manifest, tmp_path)
    training = items(copy / "manifest.json", "training")
    for section in ("validation", "test"):
        for item in items(copy / "manifest.json", section):  # type: ignore[arg-type]
            shutil.copy(training[0]["image"], item["image"])
    assert equal(fitted(copy / "manifest.json", tmp_path), expected)
    shutil.copy(training[0]["image"], training[1]["image"])
    assert not equal(fitted(copy / "manifest.json", tmp_path), expected)


def test_a_resumed_run_is_the_same_and_repeats_no_stage(
    run: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_checkpoint(run / "checkpoints" / "best.pt")["network"]
    monkeypatch.setattr(Descent, "run", lambda *arguments: pytest.fail("a stage ran again"))
    train(BUNDLE, manifest, run, resume=True, device="cpu")
    assert equal(load_checkpoint(run / "checkpoints" / "best.pt")["network"], before)


def test_weights_of_another_training_take_the_place_of_the_stages(
    run: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from healthy against ill to healthy against mildly impaired: clusters and networks go on from there."""
    monkeypatch.setattr(Descent, "run", lambda *arguments: pytest.fail("a stage ran"))
    weights = next((run / "bundle" / "models").glob("model.pt"))
    start = {**TINY, "pretrained": str(weights), "freeze_until": "stage2"}
    again = load_network(train(BUNDLE, manifest, tmp_path / "run", set=start, device="cpu"))
    first = load_network(run)
    assert equal(clusters(again), clusters(first))
    trunks = [{n: v for n, v in each.state_dict().items() if ".trunks." in n} for each in (first, again)]
    assert equal(*trunks), "frozen"
    assert not torch.equal(first.classifier.weight, again.classifier.weight)


ONE_STEP = """
import resource, sys
import torch
from torch import nn
from medresnet3d.bundle.load import load_config
from medresnet3d.data import SeededDataset
from medresnet3d.engines.cluster_fit import FitPatchClusters, TrainRegions
from pathlib import Path

stage, bundle, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
parser = load_config(bundle, ("inference.json",), {"size": "paper"})
network, shape = parser.get_parsed_content("network_def"), parser.get_parsed_content("grid")
cases = 2 if stage == "joint" else 8
items = [{"image": torch.randn(1, *shape), "label": n % 2, "patient": str(n)} for n in range(cases)]
data = SeededDataset(items, lambda item: item)
if stage == "joint":
    images = torch.stack([item["image"] for item in items])
    optimizer = torch.optim.AdamW(network.parameters())
    nn.functional.cross_entropy(network.train()(images), torch.tensor([0, 1])).backward()
    optimizer.step()
else:
    network.regions = network.regions[:1]
    network.classifier = nn.Linear(16, 2)
    FitPatchClusters(data)(network.eval(), folder)
    if stage == "regions":
        TrainRegions(data, epochs=1)(network, folder)
print(stage, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MB")
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["clusters", "regions", "joint"])
def test_one_step_of_each_stage_at_the_published_size_fits_8_gb(stage: str, tmp_path: Path) -> None:
    """One region of eight images, or a batch of two images through all 81 networks."""
    command = [sys.executable, "-c", ONE_STEP, stage, str(BUNDLE), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    print(done.stdout)
    assert int(done.stdout.split()[1]) < 8000


@pytest.mark.slow
def test_atrophy_in_one_place_is_learned_and_found_there(tmp_path: Path) -> None:
    """The whole bundle on brains whose disease sits on the right, in front and above: regions that hold the place."""
    options = {"focus": [0.42, 0.5, 0.28], "turn_degrees": 5.0}
    manifest = write_brain_cohort(tmp_path / "brains", "adni", "alzheimer", people=240, seed=3, size=36, **options)
    overrides = {"data": str(manifest), "output_dir": str(tmp_path / "run"), "device": "cpu", "augmentation": "none"}
    parser = load_config(BUNDLE, ("train.json",), overrides)
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("train#trainer").run()
    network = parser.get_parsed_content("network").eval()
    unseen = SeededDataset(
        [*items(manifest, "validation"), *items(manifest, "test")], parser.get_parsed_content("validate#preprocessing")
    )
    with torch.inference_mode():
        right = [int(network(case["image"].as_tensor()[None]).argmax()) == case["label"] for case in unseen]
    ranked = region_importance(network, unseen).ranked()
    print(f"{sum(right)} of {len(right)} right;", ", ".join(f"{name} {rise:.3f}" for name, rise in ranked[:6]))
    assert sum(right) > 0.8 * len(right)
    assert not {"left", "posterior", "inferior"} & set(ranked[0][0].split())
