from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from medresnet3d.data.manifest_rules import manifest_schema, problems

CLASSIFICATION: dict[str, Any] = {
    "name": "toy",
    "task": "classification",
    "labels": ["benign", "malignant"],
    "training": [{"image": "a.nii", "label": "benign", "patient": 1}, {"image": "b.nii", "label": 1, "patient": 2}],
}
SEGMENTATION: dict[str, Any] = {
    "name": "toy",
    "task": "segmentation",
    "labels": {"0": "background", "1": "organ"},
    "training": [{"image": "a.nii", "mask": "am.nii", "patient": 1}],
}


def found(raw: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in problems(raw)]


def with_second(**changes: Any) -> dict[str, Any]:
    """The classification manifest with its second entry changed; ``None`` removes a key."""
    second = {**CLASSIFICATION["training"][1], **changes}
    second = {key: value for key, value in second.items() if value is not None}
    return {**CLASSIFICATION, "training": [CLASSIFICATION["training"][0], second]}


def detection(**entry: Any) -> dict[str, Any]:
    return {"name": "d", "task": "detection", "labels": ["nodule", "mass"], "test": [{"image": "a.mhd", **entry}]}


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(manifest_schema())


@pytest.mark.parametrize(
    "raw",
    [
        CLASSIFICATION,
        SEGMENTATION,
        {"name": "n", "task": "conversion", "test": [{"image": "a.zip"}]},
        {"name": "n", "task": "regression", "test": [{"image": "a", "label": 2.5, "position": [1, 2, 3]}]},
        {"name": "n", "task": "detection", "test": [{"image": "a", "boxes": [[0, 0, 1, 1]], "label": ["x"]}]},
        detection(boxes=[[0, 0, 0, 1, 1, 1]], excluded_boxes=[[2, 2, 2, 2, 2, 2]]),
        detection(boxes=[], label=[]),
        {**CLASSIFICATION, "license": "CC0", "lesions": [1], "weights_may_ship": False},
        with_second(subtype="x", age="70", site="back", gold=1),
    ],
)
def test_sound_manifests(raw: dict[str, Any]) -> None:
    assert found(raw) == []


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"task": "regression", "test": []}, "has no `name`; add it."),
        ({"name": "x", "tsak": "regression", "test": []}, "has no `task`; rename `tsak` to `task`."),
        ({"name": "x", "task": "segmentaton", "test": []}, "`task` is \"segmentaton\"; did you mean 'segmentation'?"),
        ({"name": "x", "task": "regression"}, "none of the lists `training`, `validation` and `test` is there; add"),
        ({"name": "x", "task": "regression", "trainning": []}, "rename `trainning` to `training`."),
        ({"name": "x", "task": "regression", "training": {}}, "`training` is {} but must be a list."),
        ({"name": "x", "task": "regression", "training": []}, "lists nothing; add at least one entry"),
        ({**CLASSIFICATION, "validaton": []}, "the key `validaton` is unknown; rename it to `validation`."),
        ({**CLASSIFICATION, "labels": {"a": "b"}}, '`labels` is {"a": "b"}, which cannot be used; it must be: class'),
        ({**CLASSIFICATION, "labels": {"1": "a", "2": "b"}}, "`labels` names the numbers 1, 2; number the classes 0"),
        ({**CLASSIFICATION, "labels": {"0": "a", "1": "a"}}, "gives two numbers the same name"),
        ({**CLASSIFICATION, "labels": None}, "`labels` is null"),
        (with_second(image=None), "entry 2 of `training`: has no `image`; add it."),
        (with_second(image=None, imgae="b.nii"), "entry 2 of `training`: has no `image`; rename `imgae` to `image`."),
        (with_second(image=[]), "entry 2 of `training`: `image` is [], which cannot be used; it must be: path of the"),
        (
            with_second(label=None, lable=1),
            "entry 2 of `training` (b.nii): the key `lable` is unknown; rename it to `l",
        ),
        (with_second(patient=None, patinet=1), "the key `patinet` is unknown; rename it to `patient`."),
        (with_second(label=None), "has no `label`, but other entries of `training` have one"),
        (with_second(label="malignent"), "`label` is 'malignent', which is none of the classes benign, malignant; did"),
        (with_second(label="cyst"), "none of the classes benign, malignant; correct it or add it to `labels`."),
        (with_second(label=2), "`label` is 2, but the 2 classes have the numbers 0 to 1; correct it."),
        (with_second(label=0.5), "`label` is 0.5, but the 2 classes"),
        (with_second(label=True), "`label` is true, which cannot be used; it must be: class name"),
        (with_second(position=[1, 2]), "`position` is [1, 2], which cannot be used; it must be: millimetres in RAS+"),
        (with_second(fold="a"), '`fold` is "a" but must be a whole number.'),
        (
            {"name": "x", "task": "regression", "test": [{"image": "a", "label": "old"}]},
            "`label` is 'old', but regression needs a finite number",
        ),
        (
            {"name": "x", "task": "classification", "test": [{"image": "a", "label": i} for i in ("b", 0)]},
            "some labels are names and some are numbers",
        ),
        (
            {**SEGMENTATION, "training": [{"image": "a.nii", "label": "am.nii"}]},
            "gives its map as `label`; segmentation entries name it `mask`.",
        ),
        (detection(boxes=[[1, 2, 3]]), "`boxes` is [1, 2, 3], which cannot be used"),
        (detection(boxes=[[1, 2, 3, 4, 5]]), "`boxes` has [1, 2, 3, 4, 5]; give x0, y0, z0, x1, y1, z1 in mm (RAS+)"),
        (detection(boxes=[[5, 0, 1, 1]]), "the lowest corner of a box comes first"),
        (detection(boxes=[], excluded_boxes=[[0, 0, 9, 1, 1, 1]]), "`excluded_boxes` has [0, 0, 9, 1, 1, 1]; the low"),
        (detection(boxes=[[0, 0, 1, 1]], label=["nodule", "mass"]), "has 1 `boxes` and 2 `label`s; give one label"),
        (
            detection(boxes=[[0, 0, 1, 1]], label=["nodul"]),
            "`label` has 'nodul', which is none of the classes nodule, mass; did",
        ),
    ],
)
def test_one_sentence_for_each_breach(raw: dict[str, Any], message: str) -> None:
    sentences = found(raw)
    assert message in sentences[0]
    assert "\n" not in sentences[0] and len(sentences) == 1


def test_patients_and_sections() -> None:
    first, second = CLASSIFICATION["training"]
    raw = {**CLASSIFICATION, "training": [first], "validation": [{**second, "patient": "1"}]}
    assert found(raw) == [
        "entry 1 of `validation` (b.nii): patient '1' is already in `training` (entry 1); "
        "a patient may be in one section only."
    ]
    raw = {**CLASSIFICATION, "training": [first], "test": [{"image": "b.nii", "label": 0}]}
    assert "has no `patient`, which is needed because the manifest has several sections" in found(raw)[0]
    raw = with_second(fold=1, patient=None)
    assert "has no `patient`, which is needed because it has a `fold`" in found(raw)[0]
    raw = {**CLASSIFICATION, "training": [{**first, "fold": 0}, {**second, "patient": 1, "fold": 1}]}
    assert "patient '1' is in fold 1 here and in fold 0 in entry 1" in found(raw)[0]
