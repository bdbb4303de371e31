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


def test_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a network of `build_regressor`, not _Mean"):
        BiasCorrection(_Mean(), BATCHES, tmp_path, CPU)
