from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer

from medresnet3d.engines.inferer import (
    PlainBatch,
    PrecisionInferer,
    bring_labels_to_predictions,
    main_output,
    to_float,
)
from medresnet3d.engines.precision import Precision


def test_the_main_output_is_the_first() -> None:
    assert main_output((1, 2)) == 1
    assert main_output([3]) == 3
    tensor = torch.ones(2)
    assert main_output(tensor) is tensor


def test_outputs_of_any_nesting_become_fp32() -> None:
    output = to_float((torch.ones(1, dtype=torch.bfloat16), [torch.ones(1, dtype=torch.float16), torch.ones(1).long()]))
    assert isinstance(output, tuple)
    assert [each.dtype for each in (output[0], *output[1])] == [torch.float32, torch.float32, torch.int64]


def test_a_sliding_window_runs_on_plain_tensors_and_keeps_the_meta_data() -> None:
    types: set[Any] = set()

    def network(image: torch.Tensor) -> torch.Tensor:
        types.add(type(image))
        return 2 * image

    image = MetaTensor(torch.rand(1, 1, 6, 6, 6), affine=2 * torch.eye(4), meta={"case": "a"})
    output = PrecisionInferer(SlidingWindowInferer((4, 4, 4)), Precision("fp32"))(image, network)
    assert types == {torch.Tensor}
    assert isinstance(output, MetaTensor) and output.meta["case"] == "a"
    assert torch.equal(output.affine, image.affine)
    assert torch.allclose(output.as_tensor(), 2 * image.as_tensor())


def test_several_outputs_have_no_meta_data() -> None:
    output = PrecisionInferer(None, Precision("fp32"))(MetaTensor(torch.ones(1, 1)), lambda image: [image, image])
    assert [type(each) for each in output] == [torch.Tensor, torch.Tensor]


def test_a_batch_is_plain_and_in_single_precision() -> None:
    batch = {"image": MetaTensor(torch.ones(1, 1)), "label": torch.ones(1, dtype=torch.float64)}
    image, label = PlainBatch(None)(batch, torch.device("cpu"), False)
    assert type(image) is torch.Tensor
    assert label.dtype == torch.float32


def test_labels_go_where_the_predictions_are() -> None:
    elsewhere = torch.zeros(2, device="meta")
    cases = [{"pred": elsewhere, "label": torch.ones(2)}, {"pred": elsewhere, "label": 1}, {"pred": torch.ones(1)}]
    for output in (cases, dict(cases[0])):
        engine = SimpleNamespace(state=SimpleNamespace(output=output))
        bring_labels_to_predictions(engine)
    assert cases[0]["label"].device == cases[0]["pred"].device == torch.device("meta")
    assert output["label"].device == torch.device("meta")
    assert cases[1]["label"] == 1 and "label" not in cases[2]
