from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.handlers import MeanAbsoluteError, from_engine
from monai.transforms import Lambdad
from torch import nn

from medresnet3d.engines import Trainer
from medresnet3d.errors import ConfigError, DataError


class DeepNetwork(nn.Module):
    """Gives a main and an auxiliary output in training, as deep supervision does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 2, 1)
        self.inputs: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor) -> Any:
        self.inputs.append(image)
        output = self.layer(image)
        return (output, 2 * output) if self.training else output


def batches(number: int = 3, label: int = 1) -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    return [
        {
            "image": MetaTensor(torch.rand(2, 1, 4, 4, 4)),
            "label": MetaTensor(torch.full((2, 1, 4, 4, 4), label, dtype=torch.float32)),
        }
        for _ in range(number)
    ]


def make(network: nn.Module, loss: Any, data: Any = None, **options: Any) -> Trainer:
    optimizer = torch.optim.SGD(network.parameters(), options.pop("lr", 0.1))
    options.setdefault("precision", "fp32")
    return Trainer("cpu", 1, batches() if data is None else data, network, optimizer, loss, **options)


def test_the_loss_gets_all_outputs_and_the_metrics_the_first() -> None:
    seen: list[Any] = []

    def loss(output: Any, label: torch.Tensor) -> torch.Tensor:
        seen.append(output)
        return sum((each.square().mean() for each in output), torch.zeros(()))

    def first_channel(pred: torch.Tensor) -> torch.Tensor:
        seen.append(pred)
        return pred[:1]

    metric = MeanAbsoluteError(output_transform=from_engine(["pred", "label"]))
    trainer = make(DeepNetwork(), loss, postprocessing=Lambdad("pred", first_channel), key_train_metric={"mae": metric})
    trainer.run()
    assert isinstance(seen[0], tuple) and len(seen[0]) == 2
    assert tuple(seen[1].shape) == (2, 4, 4, 4)  # one case, its batch axis taken off
    assert torch.equal(seen[1], seen[0][0][0])
    assert trainer.state.metrics["mae"] > 0


def test_network_and_loss_see_plain_tensors() -> None:
    types: list[type] = []

    def loss(output: Any, label: torch.Tensor) -> torch.Tensor:
        types.append(type(label))
        return output[0].mean()

    network = DeepNetwork()
    make(network, loss).run()
    assert {type(each) for each in network.inputs} | set(types) == {torch.Tensor}


def test_bf16_computes_the_network_in_bf16_and_the_loss_in_fp32() -> None:
    inside: list[torch.dtype] = []
    outside: list[torch.dtype] = []

    def loss(output: Any, label: torch.Tensor) -> torch.Tensor:
        outside.append(output[0].dtype)
        return output[0].mean()

    network = DeepNetwork()
    network.layer.register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
    make(network, loss, precision="bf16").run()
    assert set(inside) == {torch.bfloat16}
    assert set(outside) == {torch.float32}


def test_gradient_is_clipped_to_the_given_norm() -> None:
    network = DeepNetwork()
    before = nn.utils.parameters_to_vector(network.parameters()).clone()
    make(network, lambda output, label: 1000 * output[0].mean(), batches(1), gradient_clip=0.5, lr=1.0).run()
    step = nn.utils.parameters_to_vector(network.parameters()) - before
    assert float(step.norm()) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(("loss_value", "word"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_a_loss_that_is_no_number_stops_the_training(loss_value: float, word: str) -> None:
    network = DeepNetwork()
    before = nn.utils.parameters_to_vector(network.parameters()).clone()
    trainer = make(network, lambda output, label: output[0].mean() * 0 + loss_value)
    with pytest.raises(DataError, match=f"loss became {word} in iteration 1 .epoch 1.: try a smaller learning rate"):
        trainer.run()
    assert torch.equal(before, nn.utils.parameters_to_vector(network.parameters()))


def test_double_precision_labels_fit_the_network() -> None:
    """A number to regress comes from the manifest as a float64."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    data = [{"image": torch.rand(2, 1, 4, 4, 4), "label": torch.rand(2, 1, dtype=torch.float64)}]
    types: list[torch.dtype] = []

    def loss(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        types.append(label.dtype)
        return nn.functional.mse_loss(output, label)

    make(network, loss, data).run()
    assert types == [torch.float32]


def test_a_class_that_the_network_does_not_have_is_named() -> None:
    with pytest.raises(DataError, match=r"Class 2 occurs .* iteration 1, but the network gives 2 classes \(0 to 1\)"):
        make(DeepNetwork(), lambda output, label: output[0].mean(), batches(label=2)).run()


def test_precision_that_the_device_does_not_have() -> None:
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        make(DeepNetwork(), nn.MSELoss(), precision="fp16")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_cuda_lowers_the_loss(precision: str) -> None:
    network = DeepNetwork().cuda()
    losses: list[float] = []

    def loss(output: Any, label: torch.Tensor) -> torch.Tensor:
        value = (output[0] - label).square().mean()
        losses.append(float(value))
        return value

    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    Trainer("cuda", 1, batches(20), network, optimizer, loss, precision=precision, gradient_clip=1.0).run()
    assert losses[-1] < 0.5 * losses[0]


def test_max_steps_stops_without_handlers_too() -> None:
    losses: list[float] = []

    def loss(output: Any, label: torch.Tensor) -> torch.Tensor:
        losses.append(1.0)
        return output[0].mean()

    trainer = make(DeepNetwork(), loss, batches(5), max_steps=2)
    finished: list[int] = []
    trainer.add_event_handler("EPOCH_COMPLETED", lambda engine: finished.append(engine.state.iteration))
    trainer.run()
    assert len(losses) == 2 and finished == [2]
    assert trainer.total_steps == 2
    with pytest.raises(ConfigError, match="max_steps is 0"):
        make(DeepNetwork(), loss, max_steps=0)
