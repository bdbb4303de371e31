from __future__ import annotations

import pytest
import torch

from medresnet3d.errors import DataError
from medresnet3d.transforms.screening import ScreeningScored

GRADES = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05])


@pytest.mark.parametrize(("grade", "score"), [(1, 0.6), (2, 0.3), (4, 0.05)])
def test_the_score_is_the_sum_from_a_grade_on(grade: int, score: float) -> None:
    item = {"pred": GRADES, "case": "a"}
    found = ScreeningScored("pred", grade)(item)
    assert found["details"]["screening"] == {"score": pytest.approx(score, abs=1e-6), "from_grade": grade}
    assert found["pred"] is GRADES and "details" not in item


def test_other_details_stay() -> None:
    found = ScreeningScored("pred")({"pred": GRADES, "details": {"quality": "good"}})
    assert list(found["details"]) == ["quality", "screening"]


def test_an_impossible_grade_is_named() -> None:
    with pytest.raises(DataError, match="grade 5 is impossible"):
        ScreeningScored("pred", 5)({"pred": GRADES})
