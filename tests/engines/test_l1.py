from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.engines import IterationEvents
from torch import nn

from medresnet3d.engines import Trainer
from medresnet3d.errors import ConfigError
from medresnet3d.optimizers import build_optimizer, regularised_parameters
from tests.engines.test_handlers import assert_same_run, interrupt_after
from tests.engines.toy import make_trainer


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.BatchNorm1d(4), nn.PReLU(), nn.Linear(4, 2))


def train(**options: Any) -> tuple[nn.Module, list[float]]:
    """Twenty steps on noise, where no weight is of use."""
    net = network()
    generator = torch.Generator().manual_seed(1)
    data = [
        {
            "image": torch.randn(16, 8, generator=generator),
            "label": torch.randint(2, (16,), generator=generator),
        }
        for _ in range(options.pop("steps", 20))
    ]
    losses: list[float] = []
    optimizer = build_optimizer(net, "sgd", options.pop("lr", 0.1))
    trainer = Trainer("cpu", 1, data, net, optimizer, nn.CrossEntropyLoss(), precision="fp32", **options)
    trainer.add_event_handler(
        IterationEvents.LOSS_COMPLETED, lambda engine: losses.append(engine.state.output["loss"].item())
    )
    trainer.run()
    return net, losses


def weights(net: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in regularised_parameters(net)]).detach()


def test_penalty_is_part_of_the_loss() -> None:
    (_, plain), (_, penalised) = train(), train(l1=0.05)
    assert penalised[0] - plain[0] == pytest.approx(0.05 * weights(network()).abs().sum().item(), rel=1e-5)


def test_both_modes_shrink_and_the_proximal_one_to_exact_zeros() -> None:
    plain, penalty, proximal = (
        weights(train(steps=60, **options)[0]) for options in ({}, {"l1": 0.05}, {"l1": 0.05, "l1_mode": "proximal"})
    )
    assert penalty.abs().sum() < 0.6 * plain.abs().sum()
    assert proximal.abs().sum() < 0.6 * plain.abs().sum()
    assert (plain == 0).sum() == (penalty == 0).sum() == 0
    assert (proximal == 0).sum() > len(proximal) // 3


def test_proximal_step_uses_the_rate_of_the_step() -> None:
    plain, shrunk = (train(steps=1, **options)[0] for options in ({}, {"l1": 0.3, "l1_mode": "proximal"}))
    torch.testing.assert_close(weights(shrunk), nn.functional.softshrink(weights(plain), 0.1 * 0.3))


@pytest.mark.parametrize("mode", ["penalty", "proximal"])
def test_norms_biases_and_slopes_are_left_alone(mode: str) -> None:
    plain, regularised = (train(steps=1, lr=0.01, **options)[0] for options in ({}, {"l1": 10.0, "l1_mode": mode}))
    shrunk = {id(parameter) for parameter in regularised_parameters(regularised)}
    for (name, parameter), other in zip(regularised.named_parameters(), plain.parameters(), strict=True):
        if id(parameter) not in shrunk:
            assert torch.equal(parameter, other), name


@pytest.mark.parametrize("mode", ["penalty", "proximal"])
def test_resumed_run_is_bit_equal(tmp_path: Path, mode: str) -> None:
    options: dict[str, Any] = {"trainer_options": {"l1": 0.01, "l1_mode": mode}}
    make_trainer(tmp_path / "one", **options).run()
    interrupt_after(tmp_path / "two", 6, **options)
    make_trainer(tmp_path / "two", resume=True, **options).run()
    assert_same_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(("options", "sentence"), [({"l1": -1.0}, "l1 is -1.0"), ({"l1_mode": "hard"}, "'hard'; use")])
def test_out_of_range(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        train(**options)


@pytest.mark.parametrize("mode", ["penalty", "proximal"])
def test_frozen_weights_are_left_alone(mode: str) -> None:
    net = network()
    net[1].weight.requires_grad_(False)
    before = net[1].weight.clone()
    batches = [{"image": torch.randn(16, 8), "label": torch.randint(2, (16,))}] * 3
    optimizer = build_optimizer(net, "sgd", 0.1)
    Trainer("cpu", 1, batches, net, optimizer, nn.CrossEntropyLoss(), precision="fp32", l1=0.5, l1_mode=mode).run()
    assert torch.equal(net[1].weight, before)
