from __future__ import annotations

import torch
from ignite.engine import Engine

from medresnet3d.engines.norm_freezing import FreezeNorm
from medresnet3d.networks.voxresnet import VoxResNet


def run(after: float, first_epoch: int = 0, steps: int | None = None) -> list[bool]:
    network = VoxResNet(2, width=8)
    frozen: list[bool] = []

    def step(engine: Engine, batch: torch.Tensor) -> None:
        network.train()
        frozen.append(network.norm_frozen and not network.stage1[1].training)

    engine = Engine(step)
    engine.network = network  # type: ignore[attr-defined]
    FreezeNorm(after, steps).attach(engine)
    if first_epoch:
        engine.load_state_dict({"epoch": first_epoch, "max_epochs": 5, "epoch_length": 2})
    engine.run([torch.zeros(1)] * 2, max_epochs=5)
    return frozen


def test_frozen_after_its_share_of_the_iterations() -> None:
    assert run(0.4) == [False] * 4 + [True] * 6


def test_a_run_that_goes_on_later_is_frozen_as_an_unbroken_one() -> None:
    assert run(0.4, first_epoch=3) == [True] * 4


def test_never_if_not_wanted() -> None:
    assert not any(run(1.0))


def test_the_share_may_be_of_given_steps() -> None:
    assert run(0.5, steps=4) == [False] * 2 + [True] * 8
