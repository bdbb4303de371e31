from __future__ import annotations

from typing import Any

import pytest

from medresnet3d.workflows.foreign_labels import read_meaning
from tests.workflows.foreign_bundles import metadata


def output(**values: Any) -> dict[str, Any]:
    return {"task": values.pop("task", ""), "network_data_format": {"outputs": {"pred": values}}}


@pytest.mark.parametrize(
    ("about", "task"),
    [
        (metadata("Decathlon spleen segmentation", {"0": "background"}), "segmentation"),
        (metadata("Endoscopic inbody", {"0": "in"}, kind="classification"), "classification"),
        (output(type="probability", format="classes", spatial_shape=[]), "classification"),
        (output(type="image", format="labels", spatial_shape=["*"], task="segmentation of vessels"), "segmentation"),
        (output(type="tuples", format="points", spatial_shape=[2, 10]), "regression"),
        (output(type="object", format="box", task="nodule detection"), "conversion"),
        (output(type="image", format="magnitude", spatial_shape=["*"]), "conversion"),
        (output(type="number", task="brain age"), "regression"),
        ({}, "segmentation"),
    ],
)
def test_the_task(about: dict[str, Any], task: str) -> None:
    assert read_meaning(about).task == task


def test_names_come_from_channel_def_where_labels_are_absent() -> None:
    about = metadata("segmentation", {"0": "Background", "1": "spleen"})
    assert read_meaning(about).labels == ("Background", "spleen")
    assert read_meaning({**about, "labels": {"0": "background", "1": "Milz"}}).labels == ("background", "Milz")


def test_channels_without_a_background_are_structures() -> None:
    meaning = read_meaning(metadata("segmentation", {"0": "tumor core", "1": "whole tumor"}))
    assert meaning.labels == ("background", "tumor core", "whole tumor")
    assert meaning.structures == ("tumor core", "whole tumor")


def test_numbers_with_gaps_and_names_first() -> None:
    names = read_meaning(metadata("segmentation", {"0": "background", "3": "spleen", "5": "liver"})).labels
    assert names == ("background", "label 1", "label 2", "spleen", "label 4", "liver")
    assert read_meaning(output(format="segmentation", channel_def={"background": "0", "vein": 1})).labels == (
        "background",
        "vein",
    )


def test_dimensions_and_channels_of_the_input() -> None:
    meaning = read_meaning(metadata("segmentation", {"0": "background"}, inputs=3, dims=2))
    assert (meaning.spatial_dims, meaning.channels) == (2, 3)
    assert read_meaning({}).spatial_dims is None


def test_of_several_outputs_the_types_are_named() -> None:
    about = metadata("nuclei", {"0": "background"})
    outputs = about["network_data_format"]["outputs"]
    outputs["edges"] = outputs.pop("pred")
    outputs["type_prediction"] = {**outputs["edges"], "channel_def": {"0": "background", "1": "spindle"}}
    assert read_meaning(about).labels == ("background", "spindle")
