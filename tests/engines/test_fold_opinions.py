"""Opinions on patients that were never seen, and a tree that is fitted on no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import EnsureTyped, RandFlipd
from torch import Tensor, nn

from medresnet3d.data import SeededDataset, data_loader
from medresnet3d.engines import TrainingInterrupted, load_checkpoint, seed_everything, train_handlers
from medresnet3d.engines.fold_opinions import FitMetaTree, FoldOpinions, fold_stages
from medresnet3d.engines.staged import FitStage, StagedTrainer
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.losses import build_loss
from medresnet3d.networks.mudern import MuDeRN, build_mudern

PATIENTS = 6


def cases(noise: bool = False) -> list[dict[str, Any]]:
    """Two cases of each patient; the first magnification is noise if so wished, the second tells the type."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(2 * PATIENTS):
        label = number // 2 % 2
        image = torch.rand(6, 32, 32, generator=generator)
        image[3:] += 0 if noise else 2 * label
        found.append({"image": image, "label": label, "patient": f"p{number // 2}", "case": f"case{number}"})
    return found


def make(
    folder: Path, *, folds: int = 2, resume: bool = False, spy: Any = None, noise: bool = False, epochs: int = 2
) -> tuple[StagedTrainer, MuDeRN, FoldOpinions]:
    seed_everything(0)
    network = build_mudern("resnet10", 2, (1, 1), share="all", grid=(1, 1), width=0.0625)
    if spy is not None:
        network.register_forward_pre_hook(spy)
    dataset = SeededDataset(cases(noise), [EnsureTyped("image"), RandFlipd("image", prob=0.5)], seed=3)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=3 * epochs)
    loss = build_loss("cross_entropy", auxiliary_steps=1, auxiliary_start=1.0, auxiliary_end=1.0)
    opinions = FoldOpinions(dataset, EnsureTyped("image"), folds, seed=1)
    stages = fold_stages(
        network, opinions, optimizer, loss, schedule, batch_size=4, max_epochs=epochs, lr_unit="iteration"
    )
    handlers = train_handlers(
        folder, lr_scheduler=schedule, lr_unit="iteration", resume=resume, checkpoint_seconds=0, progress=False,
        tensorboard=False,
    )  # fmt: skip
    trainer = StagedTrainer(
        device="cpu", before=stages, after=[FitStage("tree", FitMetaTree(opinions, min_leaf=2))], max_epochs=epochs,
        train_data_loader=data_loader(dataset, 4, True), network=network, optimizer=optimizer, loss_function=loss,
        precision="fp32", train_handlers=[handlers],
    )  # fmt: skip
    return trainer, network, opinions


def test_no_opinion_is_of_a_network_that_saw_the_patient(tmp_path: Path) -> None:
    means = {round(float(item["image"].mean()), 5): item["patient"] for item in cases()}
    trained: list[set[str]] = []
    asked: list[set[str]] = []

    def spy(network: nn.Module, inputs: tuple[Tensor]) -> None:  # a mirror image has the mean of its image
        seen = {means[round(float(image.mean()), 5)] for image in inputs[0]}
        if network.training:
            trained[-1].update(seen)

    trainer, network, opinions = make(tmp_path, spy=spy)
    trained.append(set())
    ask = FoldOpinions.ask

    def asking(self: FoldOpinions, fold: int, network: nn.Module, function: Any) -> None:
        asked.append({self.dataset.data[case]["patient"] for case in self.held_out(fold)})
        ask(self, fold, network, function)
        trained.append(set())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FoldOpinions, "ask", asking)
        trainer.run()
    assert len(asked) == 2 and set.union(*asked) == set(means.values())
    for learned, held_out in zip(trained, asked, strict=False):
        assert learned and not learned & held_out
    assert trained[-1] == set(means.values()), "the network that is kept learns from all"
    assert bool(network.fitted_tree)
    values, labels = opinions.gathered()
    assert values.shape == (12, 4) and labels.tolist() == [item["label"] for item in cases()]


@pytest.mark.slow
def test_opinions_on_noise_are_those_of_strangers(tmp_path: Path) -> None:
    """A network remembers its own cases; a tree that was fitted on that would trust memory."""
    trainer, network, opinions = make(tmp_path, noise=True, epochs=15)
    trainer.run()
    values, labels = opinions.gathered()
    with torch.no_grad():
        own = network.eval().opinions(torch.stack([item["image"] for item in cases(noise=True)]))

    def of_truth(logs: Tensor) -> float:
        return float(logs.exp().mean(1).gather(1, labels[:, None]).mean())

    strangers = of_truth(values.unflatten(1, (2, 2)))
    assert of_truth(own) > 0.8 and strangers < 0.65


@pytest.mark.parametrize("stop_at", [9, 15])
def test_a_run_that_was_broken_off_in_any_stage_ends_as_one_that_was_not(stop_at: int, tmp_path: Path) -> None:
    """6 iterations a stage: 9 is in the second fold, 15 in the main stage."""
    make(tmp_path / "whole")[0].run()
    count = 0

    def stop(module: nn.Module, inputs: Any) -> None:
        nonlocal count
        count += module.training
        if module.training and count == stop_at:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, TrainingInterrupted)):
        make(tmp_path / "broken", spy=stop)[0].run()
    assert count == stop_at
    make(tmp_path / "broken", resume=True)[0].run()
    whole, broken = (
        load_checkpoint(tmp_path / run / "checkpoints" / "best.pt")["network"] for run in ("whole", "broken")
    )
    assert bool(whole["fitted_tree"])
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_without_folds_there_is_one_training_and_no_tree(tmp_path: Path) -> None:
    trainer, network, opinions = make(tmp_path, folds=0)
    assert trainer.before == []
    trainer.run()
    assert not bool(network.fitted_tree)
    with pytest.raises(DataError, match="has no opinions"):
        opinions.gathered()


def test_another_network_has_no_tree(tmp_path: Path) -> None:
    _, _, opinions = make(tmp_path)
    with pytest.raises(ConfigError, match="Linear has no meta-decision tree"):
        FitMetaTree(opinions)(nn.Linear(2, 2), tmp_path)
