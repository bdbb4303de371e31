from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data import inputs
from medresnet3d.data.phantoms.dicom import write_dicom_series
from medresnet3d.io import Volume, load, save_itk
from medresnet3d.workflows.early_reading import EarlyReading
from tests.workflows.conftest import save_scan


def test_the_first_item_comes_with_its_volume(tmp_path: Path) -> None:
    for name in "ab":
        save_scan(tmp_path / f"{name}.nii.gz", seed=ord(name))
    items = inputs(tmp_path)
    first, second = EarlyReading(items).items()
    assert isinstance(first["image"], Volume) and first["reading_seconds"] > 0
    np.testing.assert_array_equal(first["image"].array, load(tmp_path / "a.nii.gz").array)
    assert (first["case"], first["path"], second) == ("a", items[0]["path"], items[1])
    assert isinstance(items[0]["image"], str)


def test_modalities_stay_a_list(tmp_path: Path) -> None:
    save_scan(tmp_path / "a.nii")
    (item,) = EarlyReading([{"case": "x", "image": [str(tmp_path / "a.nii")] * 2}]).items()
    assert [type(one) for one in item["image"]] == [Volume, Volume]


def test_what_cannot_be_read_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"no image")
    item = {"case": "a", "image": str(tmp_path / "a.nii")}
    assert list(EarlyReading([item]).items()) == [item]
    assert list(EarlyReading([]).items()) == []


@pytest.mark.parametrize("kind", ["mha", "dicom"])
def test_other_formats(tmp_path: Path, kind: str) -> None:
    array = np.random.default_rng(0).integers(0, 500, (9, 8, 7)).astype(np.int16)
    path = tmp_path / "scan.mha" if kind == "mha" else tmp_path / "series"
    if kind == "mha":
        save_itk(array, np.eye(4), path)
    else:
        write_dicom_series(path, array, np.eye(4), series_number=4)
    (item,) = EarlyReading([{"case": "x", "image": str(path)}], series=None, strict=True).items()
    assert sorted(item["image"].shape) == [7, 8, 9]
