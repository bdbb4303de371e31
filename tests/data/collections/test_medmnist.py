from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io import load
from tests.data.collections.trap import Result


def save(path: Path, shape: tuple[int, ...], labels: list[list[int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = rng.integers(0, 255, (len(labels), *shape), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.array(labels, np.uint8)
    np.savez(path, allow_pickle=False, **arrays)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (28, 28, 28), (64, 64, 64)])
def test_every_kind_of_image_is_what_was_in_the_file(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "data" / "nodulemnist3d_64.npz"
    save(path, shape, [[0], [1]])
    result = Result("medmnist", tmp_path / "data")
    entry = result.entries("training")[1]
    assert entry["label"] == "malignant"
    array = load(result.file(entry["image"])).array
    expected = np.load(path)["train_images"][1]
    if expected.ndim == 2 or expected.shape[-1] == 3:
        array, expected = array[:, :, 0], np.moveaxis(expected, 0, 1)
    assert np.array_equal(array, expected)


def test_official_parts_are_the_split(tmp_path: Path) -> None:
    save(tmp_path / "data" / "breastmnist.npz", (28, 28), [[0], [1], [1]])
    result = Result("medmnist", tmp_path / "data", folds=5)
    assert [len(result.entries(part)) for part in ("training", "validation", "test")] == [3, 3, 3]
    assert "fold" not in result.entries("training")[0]


def test_one_of_several_findings_has_to_be_chosen(tmp_path: Path) -> None:
    save(tmp_path / "data" / "chestmnist.npz", (28, 28), [[1] + [0] * 13, [0] * 13 + [1]])
    with pytest.raises(ConfigError, match="choose it with --set finding=NAME, one of atelectasis"):
        Result("medmnist", tmp_path / "data")
    result = Result("medmnist", tmp_path / "data", options={"finding": "hernia"})
    assert [entry["label"] for entry in result.entries("test")] == ["no hernia", "hernia"]


def test_one_of_several_files_has_to_be_chosen(tmp_path: Path) -> None:
    save(tmp_path / "data" / "octmnist.npz", (28, 28), [[0], [3]])
    save(tmp_path / "data" / "mine.npz", (28, 28), [[0], [4]])
    with pytest.raises(ConfigError, match=r"several array files \(mine, octmnist\)"):
        Result("medmnist", tmp_path / "data")
    assert Result("medmnist", tmp_path / "data", options={"name": "mine"}).raw["labels"] == ["0", "1", "2", "3", "4"]


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "x.npz", train_images=np.array([{}], object), train_labels=np.zeros((1, 1)))
    with pytest.raises(DataError, match="is no MedMNIST array file"):
        Result("medmnist", tmp_path / "data")
