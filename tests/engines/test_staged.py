"""Stages one after another, killed anywhere and resumed: the same tensors, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.handlers import ROCAUC, from_engine
from monai.transforms import Activationsd, AsDiscreted, Compose, EnsureTyped
from torch import Tensor, nn

from medresnet3d.data import SeededDataset, data_loader
from medresnet3d.engines import Evaluator, TrainingInterrupted, load_checkpoint, seed_everything, train_handlers
from medresnet3d.engines.staged import FitStage, GradientStage, StagedTrainer, training_only
from medresnet3d.errors import ConfigError
from tests.engines.toy import cubes, kill_self, run_in_child, training_transform


class Staged(nn.Module):
    """Features, a linear head, and a buffer that a fit writes: the mean of the features."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()]
        self.features = nn.Sequential(*layers, nn.Dropout(0.3))
        self.classifier = nn.Linear(4, 2)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x) - self.mean)


def fit_mean(network: nn.Module, folder: Path) -> None:
    """A fit that reads the data, and draws from the global generator."""
    assert not network.training
    images = torch.stack([torch.from_numpy(each["image"]) for each in cubes()])
    with torch.no_grad():
        network.mean.copy_(network.features(images).mean(0) + 0.1 * torch.rand(4))


QUIET = {"progress": False, "tensorboard": False}
Hook = Callable[[StagedTrainer], None]


def run(
    folder: Path,
    *,
    resume: bool = False,
    hook: Hook | None = None,
    fit: Any = fit_mean,
    wrap: Callable[[nn.Module], nn.Module] = nn.Module.train,
) -> nn.Module:
    """The head alone; then all, the main stage; then a fit, and the head's bias once more on the fitted features."""
    seed_everything(0)
    network, data = Staged(), cubes()

    def loader(seed: int, cases: int = 18) -> Any:
        return data_loader(SeededDataset(data[:cases], training_transform(), seed=seed), 4, True, seed)

    validator = Evaluator(
        "cpu",
        data_loader(SeededDataset(data, EnsureTyped("image")), 4),
        network,
        precision="fp32",
        postprocessing=Compose([Activationsd("pred", softmax=True), AsDiscreted("label", to_onehot=2)]),
        key_val_metric={"auc": ROCAUC(output_transform=from_engine(["pred", "label"]))},
    )

    def stage(name: str, rate: float, **options: Any) -> GradientStage:
        adam = torch.optim.Adam(network.parameters(), rate)
        return GradientStage(name, network, loader(5, 12), adam, nn.CrossEntropyLoss(), 2, **options)

    trainer = StagedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=loader(0),
        network=wrap(network),
        optimizer=torch.optim.SGD(network.parameters(), 0.05, momentum=0.9),
        loss_function=nn.CrossEntropyLoss(label_smoothing=0.1),
        precision="fp32",
        train_handlers=[train_handlers(folder, validator, resume=resume, checkpoint_seconds=0.0, **QUIET)],
        before=[stage("head", 0.05, trainable="classifier", validator=validator)],
        after=[FitStage("mean", fit), stage("again", 0.01, trainable=["classifier.bias"])],
    )
    if hook is not None:
        hook(trainer)
    trainer.run()
    return network


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run(folder)
    return folder


def network_of(folder: Path, part: str = "") -> dict[str, Tensor]:
    state: dict[str, Tensor] = load_checkpoint(folder / part / "checkpoints" / "best.pt")["network"]
    return state


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_each_stage_changes_what_it_should(unbroken: Path) -> None:
    seed_everything(0)
    start = Staged().state_dict()
    head = network_of(unbroken, "stages/head")
    fitted = load_checkpoint(unbroken / "stages" / "mean.pt")["network"]
    final, again = network_of(unbroken), network_of(unbroken, "stages/again")
    assert_same(final, again)

    def changed(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
        return {name for name in one if not torch.equal(one[name], other[name])}

    assert changed(start, head) == {"classifier.weight", "classifier.bias"}
    assert "features.0.weight" in changed(head, fitted) and "mean" in changed(head, fitted)
    assert changed(fitted, final) == {"classifier.bias"}


def test_the_last_metrics_are_those_of_the_final_network(unbroken: Path) -> None:
    for name in ("last", "best"):
        assert set(load_checkpoint(unbroken / "checkpoints" / f"{name}.pt")["final_metrics"]) == {"auc"}


def _die_at(trainer: Any, event: str, reached: Callable[[Any], bool]) -> None:
    trainer.add_event_handler(event, lambda engine: reached(engine) and kill_self())


def _in_stage(stage: Any) -> None:
    """Die in the fourth iteration of a stage of gradients."""
    import medresnet3d.engines.staged as staged

    run_stage, plain = stage.run, staged.Trainer

    class Killing(plain):  # type: ignore[misc,valid-type]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            _die_at(self, "ITERATION_STARTED", lambda engine: engine.state.iteration == 4)

    def killed(context: Any) -> None:
        staged.Trainer = Killing  # type: ignore[misc]
        run_stage(context)

    stage.run = killed


def _after_stage(stage: Any) -> None:
    run_stage = stage.run
    stage.run = lambda context: (run_stage(context), kill_self())


def _in_validation(trainer: Any) -> None:
    _die_at(trainer.run_handlers.validator, "STARTED", lambda engine: trainer.state.iteration == 8)


PLACES: dict[str, Hook] = {
    "head iteration": lambda trainer: _in_stage(trainer.before[0]),
    "after head": lambda trainer: _after_stage(trainer.before[0]),
    "main iteration": lambda trainer: _die_at(trainer, "ITERATION_STARTED", lambda engine: engine.state.iteration == 6),
    "main validation": _in_validation,
    "fit": lambda trainer: setattr(trainer.after[0], "fit", lambda network, folder: kill_self()),
    "after fit": lambda trainer: _after_stage(trainer.after[0]),
    "again": lambda trainer: _in_stage(trainer.after[1]),
    "publish": lambda trainer: setattr(trainer, "_publish", kill_self),
}
"""Where the process is killed: inside every stage, and between all of them."""


@pytest.mark.parametrize("place", PLACES)
def test_killed_anywhere_and_resumed_ends_bit_equal(place: str, unbroken: Path, tmp_path: Path) -> None:
    child = run_in_child(lambda: run(tmp_path, hook=PLACES[place]))
    child.join(120)
    assert child.exitcode == -9
    network = run(tmp_path, resume=True)
    assert_same(network.state_dict(), network_of(unbroken))
    for part in ("", "stages/head", "stages/again"):
        assert_same(network_of(tmp_path, part), network_of(unbroken, part))


def test_resuming_a_finished_run_computes_nothing_again(unbroken: Path) -> None:
    def never(network: nn.Module, folder: Path) -> None:
        raise AssertionError("fitted again")

    assert_same(run(unbroken, resume=True, fit=never).state_dict(), network_of(unbroken))


def test_a_new_run_forgets_the_stages_of_an_old_one(unbroken: Path, tmp_path: Path) -> None:
    def wrong(network: nn.Module, folder: Path) -> None:
        network.mean.fill_(7.0)  # type: ignore[union-attr]

    run(tmp_path, fit=wrong)
    assert_same(run(tmp_path).state_dict(), network_of(unbroken))


def test_ctrl_c_in_a_stage_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken: Path) -> None:
    import medresnet3d.engines.staged as staged

    class Interrupted(staged.Trainer):
        def run(self) -> None:
            self.add_event_handler(
                "ITERATION_STARTED", lambda engine: engine.state.iteration == 3 and _interrupt(engine)
            )
            super().run()

    def _interrupt(engine: Any) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(staged, "Trainer", Interrupted)
        with pytest.raises(TrainingInterrupted, match="Stopped after iteration 3"):
            run(tmp_path)
    assert_same(run(tmp_path, resume=True).state_dict(), network_of(unbroken))


def test_frozen_parts_keep_weights_and_statistics_inside_the_block_only() -> None:
    network = Staged().train()
    statistics = network.features[1].running_mean.clone()
    with training_only(network, "classifier") as frozen:
        assert frozen and [name for name, each in network.named_parameters() if each.requires_grad] == [
            "classifier.weight",
            "classifier.bias",
        ]
        network.train()(torch.rand(4, 1, 8, 8, 8))
        assert torch.equal(network.features[1].running_mean, statistics)
    assert all(each.requires_grad for each in network.parameters())
    network.train()(torch.rand(4, 1, 8, 8, 8))
    assert not torch.equal(network.features[1].running_mean, statistics)
    with pytest.raises(ConfigError, match="begins with 'head'"), training_only(network, ["head"]):
        raise AssertionError


def test_stages_need_names_and_a_place(tmp_path: Path) -> None:
    network = Staged()
    common = {
        "device": "cpu",
        "max_epochs": 1,
        "train_data_loader": data_loader(SeededDataset(cubes()), 4),
        "network": network,
        "optimizer": torch.optim.SGD(network.parameters(), 0.1),
        "loss_function": nn.CrossEntropyLoss(),
        "precision": "fp32",
    }
    stage = FitStage("mean", fit_mean)
    with pytest.raises(ConfigError, match="mean, mean"):
        StagedTrainer(**common, before=[stage], after=[stage])
    with pytest.raises(ConfigError, match="train_handlers"):
        StagedTrainer(**common, after=[stage])
