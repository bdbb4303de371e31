from __future__ import annotations

import json

import torch

from medresnet3d.transforms.clinical import NoteClinical, WeighClinicald

EVIDENCE = {
    "site": {"evidence": {"face": [0.0, 1.0, -1.0]}},
    "age": {"edges": [50.0], "evidence": [[1, 0, 0], [0, 0, 1]]},
}
LABELS = {"0": "nevus", "1": "keratosis", "2": "melanoma"}
PROBABILITIES = torch.tensor([0.5, 0.2, 0.3])


def test_probabilities_are_multiplied_by_likelihood_ratios() -> None:
    item = NoteClinical(EVIDENCE)({"image": "a.jpg", "pred": PROBABILITIES, "site": "Face", "age": "70"})
    found = WeighClinicald("pred", EVIDENCE, LABELS)(item)
    expected = PROBABILITIES * torch.tensor([0.0, 1.0, 0.0]).exp()
    torch.testing.assert_close(found["pred"], expected / expected.sum())
    assert found["details"]["clinical"] == {"site": "face", "age": "70"}
    assert found["details"]["image_alone"] == {"label": "nevus", "probability": 0.5}
    assert found["pred"].dtype == PROBABILITIES.dtype and "details" not in item


def test_nothing_known_changes_nothing() -> None:
    item = NoteClinical(EVIDENCE)({"pred": PROBABILITIES})
    assert json.loads(item["clinical"]) == {"site": "", "age": ""}
    torch.testing.assert_close(WeighClinicald("pred", EVIDENCE)(item)["pred"], PROBABILITIES)
    assert WeighClinicald("pred", None)(item) == item
    assert WeighClinicald("pred", EVIDENCE)({"pred": PROBABILITIES})["pred"] is PROBABILITIES
