"""The average of weights: its formula, what is validated and saved, and that a resumed run has the same one."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medresnet3d.engines import TrainingInterrupted, load_checkpoint
from medresnet3d.engines.averaging import WeightAverage
from medresnet3d.errors import ConfigError
from tests.engines.toy import make_trainer, network


def test_the_formula_on_weights_statistics_and_counts() -> None:
    net = nn.BatchNorm1d(2)
    average = WeightAverage(net, 0.5)
    with torch.no_grad():
        net.weight.fill_(3.0)
        net.running_mean.fill_(1.0)
        net.num_batches_tracked.fill_(7)
    average.update()
    share = 1 - 2 / 11  # of the first update, (1 + 1) / (10 + 1)
    torch.testing.assert_close(average.average["weight"], torch.full((2,), 1 + 2 * share))
    torch.testing.assert_close(average.average["running_mean"], torch.full((2,), share))
    assert int(average.average["num_batches_tracked"]) == 7
    for _ in range(50):
        average.update()
    torch.testing.assert_close(average.average["weight"], torch.full((2,), 3.0))


def test_without_decay_it_is_the_last_weights() -> None:
    net = network()
    average = WeightAverage(net, 0.0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    average.update()
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(average.average[name], tensor)


def test_the_network_has_it_inside_the_block_only() -> None:
    net = network()
    average = WeightAverage(net, 0.9)
    first = net[0].weight.detach().clone()
    with torch.no_grad():
        net[0].weight.add_(1)
    with pytest.raises(KeyError), average.applied():
        assert torch.equal(net[0].weight, first)
        raise KeyError
    assert torch.equal(net[0].weight, first + 1)


def test_what_is_saved_validated_and_left_is_the_average(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, trainer_options={"average_weights": 0.8})
    live: list[dict[str, torch.Tensor]] = []
    validated: list[torch.Tensor] = []
    trainer.add_event_handler(
        "ITERATION_COMPLETED",
        lambda engine: live.append({k: v.clone() for k, v in engine.network.state_dict().items()}),
    )
    validator: Any = trainer.toy_validator  # type: ignore[attr-defined]
    validator.add_event_handler("STARTED", lambda engine: validated.append(engine.network[0].weight.detach().clone()))
    trainer.run()
    expected, states = None, live
    for step, state in enumerate(states, 1):
        decay = min(0.8, (1 + step) / (10 + step))
        start = make_trainer(tmp_path / "start").network[0].weight.detach() if expected is None else expected
        expected = decay * start + (1 - decay) * state["0.weight"]
    assert expected is not None
    torch.testing.assert_close(validated[-1], expected)
    last, best = (load_checkpoint(tmp_path / "checkpoints" / f"{name}.pt") for name in ("last", "best"))
    torch.testing.assert_close(last["network"]["0.weight"], states[-1]["0.weight"])
    torch.testing.assert_close(last["average"]["average"]["0.weight"], expected)
    chosen = validated[best["trainer"]["epoch"] - 1]
    assert torch.equal(best["network"]["0.weight"], chosen)
    assert torch.equal(trainer.network[0].weight, chosen)


def test_a_resumed_run_has_the_same_average(tmp_path: Path) -> None:
    options: dict[str, Any] = {"trainer_options": {"average_weights": 0.9}}
    make_trainer(tmp_path / "whole", **options).run()
    trainer = make_trainer(tmp_path / "broken", **options)

    def press(engine: Any) -> None:
        if engine.state.iteration == 6:
            os.kill(os.getpid(), signal.SIGINT)

    trainer.add_event_handler("ITERATION_STARTED", press)
    with pytest.raises(TrainingInterrupted):
        trainer.run()
    make_trainer(tmp_path / "broken", resume=True, **options).run()
    one, other = (
        load_checkpoint(tmp_path / name / "checkpoints" / "last.pt")["average"] for name in ("whole", "broken")
    )
    assert one["updates"] == other["updates"] == 16
    assert all(torch.equal(tensor, other["average"][name]) for name, tensor in one["average"].items())


def test_it_begins_with_what_an_earlier_stage_made_of_the_network(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, trainer_options={"average_weights": 0.9, "max_steps": 1})
    net: Any = trainer.network
    with torch.no_grad():
        net[0].weight.add_(100)
    earlier = net[0].weight.detach().clone()
    trainer.run()
    last = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    expected = earlier + (1 - 2 / 11) * (last["network"]["0.weight"] - earlier)
    torch.testing.assert_close(last["average"]["average"]["0.weight"], expected)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_impossible_decays(decay: float) -> None:
    with pytest.raises(ConfigError, match="give 0 or more and less than 1"):
        WeightAverage(network(), decay)
