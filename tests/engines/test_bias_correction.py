from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medresnet3d.engines import BiasCorrection, load_checkpoint, save_checkpoint
from medresnet3d.errors import ConfigError
from medresnet3d.networks.regressor import NumberRegressor


class _Mean(nn.Module):
    """Gives the mean of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(1, keepdim=True)


TRUTH = torch.linspace(20, 80, 8)
ESTIMATE = 30 + 0.4 * TRUTH
BATCHES = [
    {"image": ESTIMATE[part, None, None, None].expand(-1, 1, 4, 4), "label": TRUTH[part, None]}
    for part in (slice(0, 5), slice(5, 8))
]
CPU = torch.device("cpu")


def checkpoint(folder: Path, network: nn.Module) -> Path:
    path = folder / "checkpoints" / "best.pt"
    save_checkpoint({"network": network.state_dict(), "other": 3}, path)
    return path


def test_the_correction_is_fitted_and_kept_with_the_best_weights(tmp_path: Path) -> None:
    network = NumberRegressor(_Mean(), 0.0, 1.0)
    path = checkpoint(tmp_path, network)
    fit = BiasCorrection(network, BATCHES, tmp_path, CPU)
    for _ in range(2):  # the second time from a network that is corrected already
        fit.run()
        assert network.slope.item() == pytest.approx(0.4) and network.intercept.item() == pytest.approx(30, abs=1e-4)
    state = load_checkpoint(path)
    assert state["other"] == 3
    assert state["network"]["slope"].item() == pytest.approx(0.4)
    torch.testing.assert_close(network(ESTIMATE[:, None, None, None])[:, 0], TRUTH)


def test_what_cannot_be_corrected_is_left_with_a_warning(tmp_path: Path) -> None:
    network = NumberRegressor(_Mean(), 0.0, 1.0)
    path = checkpoint(tmp_path, network)
    with pytest.warns(UserWarning, match="The bias was not corrected: 0 validation cases"):
        BiasCorrection(network, [], tmp_path, CPU).run()
    assert load_checkpoint(path)["network"]["slope"].item() == 1.0


def test_disabled_it_does_nothing(tmp_path: Path) -> None:
    network = NumberRegressor(_Mean(), 0.0, 1.0)
    BiasCorrection(network, BATCHES, tmp_path, CPU, enabled=False).run()
    assert network.slope.item() == 1.0


def readings(count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Images whose brightness follows the age, with as much noise of its own as ages vary: half of it is not age."""
    age = 20 + 60 * torch.rand(count, 1, generator=generator)
    brightness = (age - 50 + 17.3 * torch.randn(count, 1, generator=generator)) / 17.3
    return {
        "image": brightness[:, :, None, None] + 0.1 * torch.randn(count, 1, 4, 4, generator=generator),
        "label": age,
    }


def lean(corrected: bool, seed: int, folder: Path) -> float:
    """By how much the difference of unseen cases changes for each year of age, after one and the same training."""
    generator = torch.Generator().manual_seed(seed)
    train, validation, test = (readings(count, generator) for count in (400, 300, 600))
    torch.manual_seed(seed)
    network = NumberRegressor(nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), 50.0, 18.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(train["image"]), train["label"]).backward()
        optimizer.step()
    BiasCorrection(network, [validation], folder, CPU, enabled=corrected).run()
    with torch.no_grad():
        difference = network.eval()(test["image"]) - test["label"]
    centred = test["label"] - test["label"].mean()
    return float((centred * difference).sum() / centred.square().sum())


@pytest.mark.parametrize("seed", range(3))
def test_the_correction_takes_away_the_lean_of_unseen_cases(seed: int, tmp_path: Path) -> None:
    off, on = (lean(corrected, seed, tmp_path) for corrected in (False, True))
    assert -0.65 < off < -0.35
    assert abs(on) < 0.2


def test_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a network of `build_regressor`, not _Mean"):
        BiasCorrection(_Mean(), BATCHES, tmp_path, CPU)
