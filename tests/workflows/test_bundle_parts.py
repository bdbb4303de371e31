from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medresnet3d.bundle.registry import read_metadata
from medresnet3d.errors import DataError
from medresnet3d.io import load
from medresnet3d.workflows.bundle_parts import bundle_parts, known_cause, label_names, require_finite, root_cause
from medresnet3d.workflows.foreign_parts import ForeignParts
from tests.workflows import foreign_bundles as zoo

CPU = torch.device("cpu")


def test_three_steps_from_a_scan_to_an_answer(thresholder: Path, scan: Path) -> None:
    parts = bundle_parts(thresholder, read_metadata(thresholder), {}, CPU)
    assert not isinstance(parts, ForeignParts)
    volume = load(scan)
    data = parts.prepare({"image": volume})
    assert parts.input_tensor(data).shape[0] == 1
    answer = parts.finish(data, parts.run(data), [volume])
    assert answer.label_map is not None and answer.label_map.shape == volume.shape
    assert list(answer.volumes_ml) == ["bright"]


def test_a_bundle_that_names_nothing_of_ours_is_foreign(tmp_path: Path) -> None:
    bundle = zoo.spleen(tmp_path / "spleen")
    assert isinstance(bundle_parts(bundle, read_metadata(bundle), {}, CPU), ForeignParts)


def test_names_of_classes() -> None:
    assert label_names({"10": "c", "2": "b", "0": "a"}) == ("a", "b", "c")
    assert label_names(["x", 1]) == ("x", "1")


def test_errors_within_errors() -> None:
    try:
        try:
            raise DataError("ours")
        except DataError as inner:
            raise RuntimeError("applying transform") from inner
    except RuntimeError as outer:
        cause = known_cause(outer)
        assert isinstance(cause, DataError) and str(cause) == "ours"
        assert root_cause(outer) == "DataError: ours"
    assert known_cause(ValueError("theirs")) is None


def test_values_that_are_not_finite() -> None:
    require_finite(torch.zeros(2))
    with pytest.raises(DataError, match="not finite"):
        require_finite(torch.tensor([0.0, float("nan")]))
