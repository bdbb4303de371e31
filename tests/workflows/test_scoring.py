from __future__ import annotations

import pytest

from medresnet3d.errors import DataError
from medresnet3d.workflows.scoring import match_labels


def test_classes_are_matched_by_name() -> None:
    assert match_labels(["nodule", "Vessel"], ["vessel", "nodule"], "m.json") == ([1, 0], [])
    assert match_labels(["background", "CSF"], ["background", "white matter", "csf"], "m.json") == ([0, 2], [])


def test_other_names_are_matched_by_number_with_a_warning() -> None:
    order, (warning,) = match_labels(["class 0", "class 1"], ["benign", "malignant"], "m.json")
    assert order == [0, 1]
    assert "class 0, class 1" in warning and "benign, malignant" in warning


def test_unnamed_classes_are_read_as_the_bundles() -> None:
    order, (warning,) = match_labels([], ["benign", "malignant"], "m.json")
    assert order == [0, 1] and "names no classes" in warning


def test_as_many_classes_of_which_some_are_the_same_are_others() -> None:
    with pytest.raises(DataError, match="are not those of the bundle"):
        match_labels(["Homogeneous", "Golgi"], ["homogeneous", "cytoplasmatic"], "m.json")


def test_classes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"m\.json: its classes \(a, b, c\) are not those of the bundle \(d, e\)"):
        match_labels(["a", "b", "c"], ["d", "e"], "m.json")
