from __future__ import annotations

import pytest

from medresnet3d.bundle.registry import find_bundle, read_metadata
from medresnet3d.data.preparation.cards import find_card
from medresnet3d.errors import DataError
from medresnet3d.workflows.label_matching import LabelMatch, match_labels

SKIN = ["akiec", "bcc", "mel", "nv"]
ELSEWHERE = {
    "akiec": ["malignant"],
    "bcc": ["basal cell carcinoma", "malignant"],
    "mel": ["melanoma", "malignant"],
    "nv": ["common nevus", "atypical nevus", "benign"],
}


def matched(*names: str, together: bool = True) -> LabelMatch:
    return match_labels(names, SKIN, "m.json", ELSEWHERE, together=together)


def test_classes_are_matched_by_name() -> None:
    match = match_labels(["nodule", "Vessel"], ["vessel", "nodule"], "m.json")
    assert (match.index, match.notes, match.names) == ([1, 0], [], ["vessel", "nodule"])
    match = match_labels(["background", "CSF"], ["background", "white matter", "csf"], "m.json")
    assert (match.index, match.notes) == ([0, 2], [])


def test_other_names_are_matched_by_number_with_a_warning() -> None:
    match = match_labels(["class 0", "class 1"], ["benign", "malignant"], "m.json")
    (warning,) = match.notes
    assert match.index == (0, 1)
    assert "class 0, class 1" in warning and "benign, malignant" in warning


def test_unnamed_classes_are_read_as_the_bundles() -> None:
    match = match_labels([], ["benign", "malignant"], "m.json")
    (warning,) = match.notes
    assert match.index == (0, 1) and "names no classes" in warning


def test_as_many_classes_of_which_some_are_the_same_are_others() -> None:
    with pytest.raises(DataError, match="are not those of the bundle"):
        match_labels(["Homogeneous", "Golgi"], ["homogeneous", "cytoplasmatic"], "m.json")


def test_classes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"m\.json: its classes \(a, b, c\) are not those of the bundle \(d, e\)"):
        match_labels(["a", "b", "c"], ["d", "e"], "m.json")


def test_several_names_from_elsewhere_may_mean_one_class() -> None:
    match = matched("Common nevus", "atypical nevus", "melanoma", "BCC")
    assert (match.index, match.names, match.together) == ([3, 3, 2, 1], SKIN, False)
    assert match.notes == [
        "Names of the manifest are taken for classes of the bundle: Common nevus and atypical nevus for nv; "
        "melanoma for mel."
    ]
    given = dict(zip(SKIN, [0.1, 0.2, 0.3, 0.4], strict=True))
    assert match.probabilities(given) == given


@pytest.mark.parametrize("names", [("other", "melanoma"), ("melanoma", "other")])
def test_the_rest_of_two_classes_is_what_the_other_is_not(names: tuple[str, str]) -> None:
    match = matched(*names)
    assert (match.index, match.names) == ([0, 1], list(names))
    found = match.probabilities(dict(zip(SKIN, [0.1, 0.2, 0.3, 0.4], strict=True)))
    assert list(found) == list(names)
    assert found == pytest.approx({"other": 0.7, "melanoma": 0.3})
    assert "other for akiec, bcc and nv" in match.notes[0] and "are added" in match.notes[0]


def test_a_name_of_several_classes_means_all_of_them() -> None:
    match = matched("benign", "malignant")
    assert (match.index, match.names, match.members) == ([0, 1], ["benign", "malignant"], [(3,), (0, 1, 2)])


def test_classes_that_no_name_means_stay_beside_those_taken_together() -> None:
    match = match_labels(["x"], ["a", "b", "c"], "m.json", {"a": ["x"], "c": ["x"]})
    assert (match.index, match.names, match.members) == ([0], ["x", "b"], [(0, 2), (1,)])


@pytest.mark.parametrize(
    "names",
    [
        ("melanoma", "wart"),  # one is unknown
        ("melanoma", "malignant"),  # one is part of the other
        ("other", "wart"),  # the rest of nothing known
        ("melanoma", "nv", "other"),  # the rest, where there are more than two
    ],
)
def test_names_that_do_not_add_up_are_refused_in_one_sentence(names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"are not those of the bundle \(akiec, bcc, mel, nv\); use a bundle"):
        matched(*names)


def test_structures_are_never_taken_together() -> None:
    assert matched("melanoma", "nv", together=False).index == [2, 3]
    for names in (("other", "melanoma"), ("benign", "malignant")):
        with pytest.raises(DataError, match="are not those of the bundle"):
            matched(*names, together=False)


@pytest.mark.parametrize("collection", ["ham10000", "isic2016", "isic2017", "isic2018", "isic2019", "ph2"])
def test_collections_of_skin_lesions_fit_the_shipped_bundle(collection: str) -> None:
    metadata = read_metadata(find_bundle("skin_lesion_ensemble"))
    labels = list(metadata["labels"].values())
    for task in find_card(collection).tasks:
        if task.kind == "classification":
            match = match_labels(task.labels, labels, "m.json", metadata["names_elsewhere"])
            assert len(match.index) == len(task.labels)
            assert match.together == (len(task.labels) == 2)


@pytest.mark.parametrize("collection", ["bccd", "lisc", "raabin"])
def test_collections_of_leukocytes_have_the_names_of_the_shipped_bundle(collection: str) -> None:
    labels = list(read_metadata(find_bundle("leukocyte_hierarchical_resnet"))["labels"].values())
    for task in find_card(collection).tasks:
        if task.kind == "classification":
            assert not match_labels(task.labels, labels, "m.json").notes
