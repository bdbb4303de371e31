from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.inferers import SimpleInferer
from monai.transforms import Activationsd, AsDiscreted, Compose, EnsureTyped, KeepLargestConnectedComponentd

from medresnet3d.engines import Precision
from medresnet3d.engines.inferer import PrecisionInferer
from medresnet3d.errors import ConfigError
from medresnet3d.inferers import InferenceReport, SlidingWindowInferer
from medresnet3d.workflows.inference_options import (
    answer_labels_directly,
    use_precision,
    what_was_left_out,
    with_precision,
)

ARGMAX = AsDiscreted("pred", argmax=True)
LARGEST = KeepLargestConnectedComponentd("pred", applied_labels=[1])


def parts(*steps: Any, inferer: Any = None, **more: Any) -> Any:
    values: dict[str, Any] = {
        "bundle": Path("b"),
        "inferer": SlidingWindowInferer(8, strategy="windows") if inferer is None else inferer,
        "answer": Compose(list(steps)),
        "task": "segmentation",
        "outputs": ("pred",),
        "device": torch.device("cpu"),
        "precision": Precision("fp32"),
    }
    return SimpleNamespace(**{**values, **more})


@pytest.mark.parametrize(
    "before",
    [(), (Activationsd("pred", softmax=True),), (EnsureTyped("pred"), Activationsd("pred", sigmoid=True))],
)
def test_an_argmax_moves_into_the_window(before: tuple[Any, ...]) -> None:
    logits = torch.rand(3, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    given = parts(*before, ARGMAX, LARGEST)
    expected = given.answer({"pred": logits})["pred"]
    assert answer_labels_directly(given) and given.inferer.output == "labels"
    labels = given.inferer(logits[None], lambda window: window)[0]
    assert labels.dtype == torch.uint8 and labels.shape[0] == 1
    found = given.answer({"pred": labels})["pred"]
    assert torch.equal(found, expected) and found.dtype == expected.dtype


def test_a_label_map_that_nothing_follows_keeps_its_small_type() -> None:
    given = parts(ARGMAX)
    assert answer_labels_directly(given)
    labels = torch.ones(1, 4, 4, 4, dtype=torch.uint8)
    assert given.answer({"pred": labels})["pred"].dtype == torch.uint8


@pytest.mark.parametrize(
    "given",
    [
        parts(LARGEST, ARGMAX),
        parts(AsDiscreted("pred", argmax=True, to_onehot=3)),
        parts(AsDiscreted("pred", threshold=0.5)),
        parts(Activationsd("pred", other=torch.relu), ARGMAX),
        parts(AsDiscreted(("pred", "label"), argmax=True)),
        parts(lambda item: item, ARGMAX),
        parts(Activationsd("pred", softmax=True)),
        parts(ARGMAX, inferer=SimpleInferer()),
        parts(ARGMAX, inferer=SlidingWindowInferer(8, strategy="exact")),
        parts(ARGMAX, inferer=SlidingWindowInferer(8, output="probabilities")),
        parts(ARGMAX, task="classification"),
        parts(ARGMAX, outputs=("pred", "other")),
    ],
)
def test_what_must_see_logits_sees_them(given: Any) -> None:
    answer = given.answer
    assert not answer_labels_directly(given)
    assert given.answer is answer


def test_exactness_and_number_formats() -> None:
    window = SlidingWindowInferer(8, precision="bf16")
    assert with_precision(window, Precision("fp32")) is window
    assert (window.strategy, window.precision) == ("auto", "bf16")
    with_precision(window, Precision("bf16"), exact=True)
    assert window.strategy == "exact"
    wrapped = with_precision(SimpleInferer(), Precision("bf16"), exact=True)
    assert isinstance(wrapped, PrecisionInferer) and wrapped.precision.name == "fp32"

    for given in (parts(), parts(inferer=PrecisionInferer(None, Precision("fp32")))):
        use_precision(given, "bf16")
        named = given.inferer.precision
        assert getattr(named, "name", named) == "bf16" == given.precision.name
    use_precision(parts(inferer=SimpleInferer()), "fp32")
    with pytest.raises(ConfigError, match=r"--precision bf16: the inferer of this bundle \(SimpleInferer\) has no"):
        use_precision(parts(inferer=SimpleInferer()), "bf16")


def test_what_a_reader_is_told() -> None:
    assert what_was_left_out(None) == []
    assert what_was_left_out(InferenceReport("whole", "fp32", left_out=0.0004)) == []
    report = InferenceReport("windows", "bf16", left_out=0.256, notes=("memory ran out once",))
    assert what_was_left_out(report, "air") == [
        "Memory ran out once.",
        "25.6 % of the image is empty; the network did not see it and its answer is air.",
    ]
