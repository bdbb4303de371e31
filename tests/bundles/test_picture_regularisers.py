"""Every classifier of pictures trains on mixtures, under light of another colour, and answers by averaged weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from medresnet3d.engines.mixing import Mixing
from tests.bundles.conftest import BundleUnderTest
from tests.bundles.test_contract import picture_classifiers
from tests.bundles.test_workflows import workflow

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("bundle", [each.id for each in picture_classifiers()], indirect=True)
def test_an_epoch_with_all_of_them(bundle: BundleUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    mix = Mixing.mix

    def counted(self: Mixing, images: torch.Tensor) -> torch.Tensor:
        mixed = mix(self, images)
        shares.append(self.share)
        return mixed

    monkeypatch.setattr(Mixing, "mix", counted)
    tint = {"tint": 0.2} if "tint" in json.loads(Path(bundle.config("train")).read_text()) else {}
    chosen = {"mixing::name": "mixup", "mixing::prob": 1.0, "average_weights": 0.9, "max_epochs": 1, **tint}
    flow = workflow(bundle, "train", tmp_path / "run", **chosen)
    flow.initialize()
    flow.run()
    flow.finalize()
    last = torch.load(tmp_path / "run/checkpoints/last.pt", weights_only=True)
    assert last["average"]["updates"] == last["trainer"]["iteration"] <= len(shares)
    assert all(0 < share < 1 for share in shares)
    different = [
        name for name, value in last["average"]["average"].items() if not torch.equal(value, last["network"][name])
    ]
    assert different
