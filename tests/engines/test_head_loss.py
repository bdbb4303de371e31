"""Losses on features in the trainer: what they get, what the network answers afterwards, and going on after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.engines import IterationEvents
from torch import nn

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data import items
from medresnet3d.data.phantoms.cube_cohort import write_nodule_cubes
from medresnet3d.engines import Trainer
from medresnet3d.engines.head_loss import HeadLoss
from medresnet3d.errors import ConfigError
from medresnet3d.losses import build_loss
from medresnet3d.losses.cosface import CosFaceLoss
from medresnet3d.losses.factory import FEATURE_LOSSES
from medresnet3d.losses.margin import MarginLoss
from medresnet3d.networks import build_classifier
from tests.engines.test_handlers import assert_same_run
from tests.engines.toy import make_trainer

# annealed and weighted so that margins and centres matter within a few steps
OPTIONS: dict[str, dict[str, Any]] = {
    "l_softmax": {"start": 1.0, "decay": 0.8},
    "a_softmax": {"start": 4.0, "gamma": 1.0, "minimum": 0.5},
    "cosface": {"scale": 10.0},
    "center": {"weight": 0.1},
}


def network(classes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return build_classifier("resnet10", num_classes=classes, width=0.0625, stem_stride=1)


def batches(number: int = 2) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {"image": torch.rand(4, 1, 8, 8, 8, generator=generator), "label": torch.tensor([0, 1, 1, 0])}
        for _ in range(number)
    ]


def make(net: nn.Module, loss: Any, **options: Any) -> Trainer:
    options.setdefault("precision", "fp32")
    optimizer = torch.optim.AdamW(net.parameters(), 0.01, weight_decay=0.1)
    return Trainer("cpu", 2, batches(), net, optimizer, loss, **options)


class Spy(CosFaceLoss):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[torch.Tensor, ...]] = []

    def forward(self, features: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, bias: Any = None) -> Any:
        self.seen.append((features, weight, target))
        return super().forward(features, weight, target, bias)


def test_the_loss_gets_features_weight_and_target_of_one_forward_pass() -> None:
    net, loss, calls = network(), Spy(), []
    net.conv1.register_forward_hook(lambda *arguments: calls.append(1))
    outputs: list[torch.Tensor] = []
    trainer = make(net, loss)
    trainer.add_event_handler("ITERATION_COMPLETED", lambda engine: outputs.append(engine.state.output[0]["pred"]))
    trainer.run()
    assert len(calls) == len(loss.seen) == 4  # two epochs of two batches
    features, weight, target = loss.seen[-1]
    assert features.shape == (4, net.classifier.in_features) and features.requires_grad
    assert weight is net.classifier.weight and target.tolist() == [0, 1, 1, 0]
    assert outputs[0].shape == (2,) and float(outputs[0].detach().abs().max()) <= 30.0  # scaled cosines of one case


def test_prediction_for_metrics_is_the_answer_of_the_last_layer() -> None:
    net, loss = network(), Spy()
    trainer, pairs = make(net, loss), []

    def compare(engine: Any) -> None:
        cosines = F.normalize(loss.seen[-1][0]) @ F.normalize(net.classifier.weight).T
        pairs.append((engine.state.output["pred"].detach(), 30 * cosines.detach()))

    trainer.add_event_handler(IterationEvents.LOSS_COMPLETED, compare)
    trainer.run()
    for prediction, cosines in pairs:
        torch.testing.assert_close(prediction, cosines)


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_bias_stays_zero_where_the_loss_has_none(name: str) -> None:
    net, loss = network(), build_loss(name, **OPTIONS.get(name, {}))
    net.classifier.bias.data.fill_(0.5)
    before = net.classifier.weight.detach().clone()
    make(net, loss, gradient_clip=1.0).run()
    assert not torch.equal(before, net.classifier.weight)
    assert bool(net.classifier.bias.any()) == loss.uses_bias


def test_bf16_network_and_fp32_loss() -> None:
    loss, inside = Spy(), []
    net = network()
    net.classifier.register_forward_hook(lambda head, inputs, output: inside.append(output.dtype))
    make(net, loss, precision="bf16").run()
    assert set(inside) == {torch.bfloat16}
    assert {seen[0].dtype for seen in loss.seen} == {torch.float32}


def test_nothing_is_left_on_the_network() -> None:
    net = network()
    trainer = make(net, CosFaceLoss())
    trainer.run()
    assert not net.classifier._forward_pre_hooks
    scripted = torch.jit.script(net.eval())
    image = batches()[0]["image"]
    torch.testing.assert_close(scripted(image), net(image))


def test_a_plain_loss_leaves_the_last_layer_as_it_was_trained() -> None:
    net = network()
    make(net, CosFaceLoss()).run()
    make(net, build_loss("cross_entropy")).run()
    assert float(net.classifier.feature_scale) == 30.0 and bool(net.classifier.unit_weights)


def test_weights_of_an_ordinary_network_loaded_at_the_start_do_not_change_the_mode() -> None:
    net, ordinary = network(), network().state_dict()
    trainer = make(net, CosFaceLoss(), train_handlers=[Loading(ordinary)])
    trainer.run()
    assert float(net.classifier.feature_scale) == 30.0


class Loading:
    """A handler that loads a state dict when training starts, as MONAI's CheckpointLoader does."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = state

    def attach(self, engine: Trainer) -> None:
        engine.add_event_handler("STARTED", lambda: engine.network.load_state_dict(self.state))


@pytest.mark.parametrize("net", [nn.Linear(3, 2), nn.Sequential(nn.Flatten(), nn.Linear(512, 2))])
def test_a_network_without_such_a_last_layer_is_named(net: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"CosFaceLoss needs .* but (Linear|Sequential) has no last layer"):
        make(net, CosFaceLoss())


def test_a_network_with_several_outputs_is_named() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = network().classifier

        def forward(self, image: torch.Tensor) -> Any:
            features = image.flatten(1)[:, : self.classifier.in_features]
            return [self.classifier(features), self.classifier(features)]

    with pytest.raises(ConfigError, match="used it 2 times and returned list"):
        make(Two(), CosFaceLoss()).run()


@pytest.mark.parametrize("name", ["l_softmax", "a_softmax", "center", "cosface"])
def test_broken_off_and_resumed_ends_like_the_unbroken_run(name: str, tmp_path: Path) -> None:
    def trainer(folder: str, **options: Any) -> Trainer:
        loss = build_loss(name, **OPTIONS[name])
        return make_trainer(tmp_path / folder, epochs=2, net=network(), loss=loss, checkpoint_seconds=0, **options)

    def stop(engine: Trainer) -> None:
        if engine.state.iteration == 3:
            raise RuntimeError("stopped")

    trainer("whole").run()
    broken = trainer("broken")
    broken.add_event_handler("ITERATION_COMPLETED", stop)
    with pytest.raises(RuntimeError, match="stopped"):
        broken.run()
    resumed = trainer("broken", resume=True)
    resumed.run()
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    state = resumed.loss_function.state_dict()
    assert all(int(value) == 8 if key == "step" else value.any() for key, value in state.items())


def test_state_of_the_loss_is_in_the_checkpoint(tmp_path: Path) -> None:
    loss = build_loss("center", weight=0.1)
    make_trainer(tmp_path, epochs=1, net=network(), loss=loss).run()
    saved = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)["loss"]
    assert torch.equal(saved["centers"], loss.centers) and loss.centers.any()


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nodule_cubes(tmp_path_factory.mktemp("cubes"), cubes=32, size=20, seed=0)


@pytest.mark.parametrize("name", ["cross_entropy", *FEATURE_LOSSES])
def test_the_lung_bundle_takes_any_loss_by_that_one_id(name: str, cubes: Path, tmp_path: Path) -> None:
    """Trained through the bundle; its inference network, built without knowing the loss, gives the same answers."""
    bundle = find_bundle("lung_nodule_cnn3d")
    small = {"arch": "resnet10", "crop_size_mm": 16.0, "stem_stride": 1}
    loss = {"_target_": "medresnet3d.losses.build_loss", "name": name, **OPTIONS.get(name, {})}
    run = {"data": str(cubes), "output_dir": str(tmp_path), "loss": loss, "max_epochs": 2, "batch_size": 4}
    parser = load_config(bundle, ("train.json",), {**small, **run})
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("train#trainer").run()
    trained = parser.get_parsed_content("network").eval()
    answering = load_config(bundle, ("inference.json",), small).get_parsed_content("network_def").eval()
    saved = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)["network"]
    answering.load_state_dict(saved)
    trained.load_state_dict(saved)
    transform = parser.get_parsed_content("validate#preprocessing")
    image = torch.stack([transform(item)["image"].as_tensor() for item in items(cubes, "test")])
    with torch.inference_mode():
        logits = answering(image)
        assert torch.equal(logits, trained(image))
        criterion = parser.get_parsed_content("loss").eval()
        if isinstance(criterion, MarginLoss):
            head, features = trained.classifier, trained.forward_features(image)
            bias = head.bias if criterion.uses_bias else None
            unmargined = criterion.logits(features, head.weight, torch.zeros(len(image), dtype=torch.int64), bias)
            torch.testing.assert_close(logits, unmargined)
            assert torch.equal(logits.argsort(1), unmargined.argsort(1))


def test_its_state_is_that_of_the_loss() -> None:
    loss = build_loss("l_softmax")
    wrapped = HeadLoss(loss, network())
    wrapped.load_state_dict({"step": torch.tensor(5)})
    assert int(loss.step) == int(wrapped.state_dict()["step"]) == 5
