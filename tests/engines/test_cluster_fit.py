"""Clusters know the training cases alone, and regions are trained one after another, restartable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medresnet3d.data import SeededDataset
from medresnet3d.engines.cluster_fit import Descent, FitPatchClusters, TrainRegions
from medresnet3d.engines.staged import FitStage, StageContext
from medresnet3d.errors import ConfigError
from medresnet3d.networks.cluster_densenet import ClusterDenseNet
from tests.networks.test_cluster_densenet import TINY

CASES = 12


def cases(count: int = CASES, seed: int = 0) -> SeededDataset:
    """Noise on a brighter or a darker ground; of class 1 the last corner has a bright spot."""
    generator = torch.Generator().manual_seed(seed)
    items = []
    for number in range(count):
        image = 0.2 * torch.randn(1, 32, 32, generator=generator) + float(number // 2 % 2)
        if number % 2:
            image[:, 24:30, 24:30] += 3
        items.append({"image": image, "label": number % 2, "patient": f"p{number}"})
    return SeededDataset(items, lambda item: item)


def network() -> ClusterDenseNet:
    torch.manual_seed(0)
    return ClusterDenseNet(2, **TINY)


def context(built: nn.Module, folder: Path, resume: bool = False) -> StageContext:
    return StageContext(built, torch.device("cpu"), folder, 0, resume, "fp32", 60.0, {})


def staged(folder: Path, resume: bool = False, built: ClusterDenseNet | None = None) -> ClusterDenseNet:
    built = built or network()
    where = context(built, folder, resume)
    FitStage("clusters", FitPatchClusters(cases())).run(where)
    FitStage("regions", TrainRegions(cases(), epochs=4, batch_size=8)).run(where)
    return built


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return staged(tmp_path_factory.mktemp("unbroken")).state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_clusters_are_fitted_frozen_and_saved(unbroken: dict[str, torch.Tensor]) -> None:
    built = network()
    built.load_state_dict(unbroken)
    FitPatchClusters(cases())(again := network(), Path())
    images = torch.stack([item["image"] for item in cases(40, seed=7).data])
    for region, fresh, crop in zip(built.regions, again.regions, built.region_crops(images), strict=True):
        assert bool(region.clusters.ready)  # type: ignore[union-attr]
        patches = region.patches(crop)  # type: ignore[operator]
        assert torch.equal(region.clusters(patches), fresh.clusters(patches)), "training moved nothing"  # type: ignore[operator]
        assert len(region.clusters(patches).unique()) == 2  # type: ignore[operator]


def test_the_clusters_depend_on_every_training_case_and_on_no_other() -> None:
    def centres(dataset: SeededDataset) -> torch.Tensor:
        FitPatchClusters(dataset)(built := network(), Path())
        return torch.stack([region.clusters.mean for region in built.regions])  # type: ignore[union-attr, misc]

    seen = cases()
    expected = centres(seen)
    assert torch.equal(centres(cases()), expected)
    whole = torch.stack([item["image"] for item in seen.data])
    described = [
        region.clusters.describe(region.patches(crop)).mean(0)  # type: ignore[operator, union-attr]
        for region, crop in zip(network().regions, network().region_crops(whole), strict=True)
    ]
    torch.testing.assert_close(expected, torch.stack(described)), "the mean of the training patches and nothing else"
    seen.data[3]["image"] += 1
    assert not torch.equal(centres(seen), expected)


def test_a_few_patches_can_stand_for_all() -> None:
    FitPatchClusters(cases(), patches=10)(few := network(), Path())
    FitPatchClusters(cases())(all_of_them := network(), Path())
    assert not torch.equal(few.regions[0].clusters.mean, all_of_them.regions[0].clusters.mean)  # type: ignore[union-attr]


def test_the_last_layer_alone_answers_before_the_joint_training(unbroken: dict[str, torch.Tensor]) -> None:
    built = network()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    built.load_state_dict(unbroken)
    changed = {name for name, value in unbroken.items() if not torch.equal(value, before[name])}
    assert all(name in changed for name, _ in built.named_parameters() if not name.endswith("norm5.bias"))
    images = torch.stack([item["image"] for item in cases(40, seed=7).data])
    with torch.no_grad():
        right = built.eval()(images).argmax(1) == torch.arange(40) % 2
    assert right.float().mean() > 0.9


def test_broken_off_in_the_middle_and_resumed_the_result_is_the_same(
    unbroken: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    run = Descent.run

    def counted(self: Descent, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 11:  # three trainings a region: in the middle of the fourth
            raise KeyboardInterrupt
        run(self, *arguments)

    monkeypatch.setattr(Descent, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        staged(tmp_path)
    assert sorted(path.name for path in (tmp_path / "regions").iterdir()) == [f"region_0{n}.pt" for n in range(3)]
    calls.clear()
    calls += [1] * 100
    assert same(staged(tmp_path, resume=True).state_dict(), unbroken)
    assert len(calls) == 100 + 6 * 3 + 1
    finished = len(calls)
    assert same(staged(tmp_path, resume=True).state_dict(), unbroken)
    assert len(calls) == finished, "what is finished is loaded"


@pytest.mark.parametrize("fit", [FitPatchClusters, TrainRegions])
def test_another_network_is_refused(fit: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Linear has no clusters of patches"):
        fit(cases())(nn.Linear(1, 1), tmp_path)
