from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from monai.handlers import MeanAbsoluteError, from_engine
from torch import nn

from medresnet3d.data import SeededDataset, data_loader
from medresnet3d.engines import Evaluator, evaluate_handlers


class Twice(nn.Module):
    """Doubles its input; gives two outputs if asked to."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.outputs = outputs
        self.types: set[type] = set()

    def forward(self, image: torch.Tensor) -> Any:
        self.types.add(type(image))
        return 2 * image if self.outputs == 1 else [2 * image] * self.outputs


def loader(values: list[float]) -> Any:
    affine = torch.diag(torch.tensor([2.0, 2, 2, 1]))
    items = [
        {
            "image": MetaTensor(torch.full((1, 2, 2, 2), v), affine=affine, meta={"case": f"c{v}"}),
            "label": torch.zeros(1),
        }
        for v in values
    ]
    return data_loader(SeededDataset(items, None), batch_size=2)


def evaluator(values: list[float], network: nn.Module | None = None, **options: Any) -> Evaluator:
    metric = MeanAbsoluteError(output_transform=from_engine(["mean", "label"]))

    def mean(item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "mean": item["pred"].mean().reshape(1)}

    options |= {"precision": "fp32", "postprocessing": mean, "key_val_metric": {"mae": metric}}
    return Evaluator("cpu", loader(values), network or Twice(), **options)


def test_predictions_keep_the_meta_data_of_their_image() -> None:
    network = Twice()
    engine = evaluator([1.0, 2.0, 3.0], network)
    found: list[Any] = []
    engine.add_event_handler("ITERATION_COMPLETED", lambda e: found.extend(item["pred"] for item in e.state.output))
    engine.run()
    assert network.types == {torch.Tensor}
    assert [float(each.mean()) for each in found] == [2.0, 4.0, 6.0]
    assert [each.meta["case"] for each in found] == ["c1.0", "c2.0", "c3.0"]
    assert all(each.affine[0, 0] == 2 for each in found)
    assert engine.state.metrics["mae"] == pytest.approx(4.0)
    assert len(decollate_batch(torch.stack(found))) == 3


def test_the_first_of_several_outputs_counts() -> None:
    engine = evaluator([1.0, 2.0], Twice(outputs=3))
    engine.run()
    assert engine.state.metrics["mae"] == pytest.approx(3.0)


@pytest.mark.parametrize(("smaller", "best"), [(False, 6.0), (True, 2.0)])
def test_the_better_metric_may_be_the_smaller_one(smaller: bool, best: float) -> None:
    engine = evaluator([1.0], smaller_is_better=smaller)
    for epoch, value in enumerate((2.0, 1.0, 3.0), start=1):
        engine.data_loader = loader([value])
        engine.run(epoch)
    assert engine.state.best_metric == best
    assert engine.state.best_metric_epoch == {6.0: 3, 2.0: 2}[best]


def test_anything_is_better_than_nan() -> None:
    engine = evaluator([1.0])
    for epoch, value in enumerate((float("nan"), 1.0), start=1):
        engine.data_loader = loader([value])
        engine.run(epoch)
    assert engine.state.best_metric == 2.0


def test_metrics_are_written(tmp_path: Path) -> None:
    evaluator([1.0, 2.0], val_handlers=[evaluate_handlers(tmp_path)]).run()
    assert [dict(row) for row in csv.DictReader((tmp_path / "metrics.csv").open())] == [{"mae": "3.0"}]


def test_an_error_comes_through_and_nothing_is_written(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            raise ArithmeticError("no answer")

    with pytest.raises(ArithmeticError, match="no answer"):
        evaluator([1.0], Broken(), val_handlers=[evaluate_handlers(tmp_path)]).run()
    assert not (tmp_path / "metrics.csv").exists()
