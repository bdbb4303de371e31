from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels import apply_voi_lut
from pydicom.sequence import Sequence

from medresnet3d.errors import DataError
from medresnet3d.io import Volume, load
from medresnet3d.io.dicom_voi import with_voi_lut
from medresnet3d.transforms.load import LoadVolumed
from tests.io.dicom_maker import Series, stored_values

TAGS = {"Modality": "MG", "BitsStored": 12, "HighBit": 11}


def table(ds: Dataset, k: int) -> None:
    """A curve of 10 bits that is no window."""
    item = Dataset()
    curve = (1023 * np.linspace(0, 1, 4096) ** 2).astype(np.uint16)
    item.LUTDescriptor = [4096, 0, 10]
    item.add_new("LUTData", "OW", curve.tobytes())
    ds.VOILUTSequence = Sequence([item])


def write(folder: Path, tags: dict, change: object = None) -> tuple[np.ndarray, Volume]:
    stored = stored_values(dtype=np.uint16) % 4096
    series = Series(stored, intercept=0, tags={**TAGS, **tags}, change=change)
    return stored, load(series.write(folder))


def test_a_window_is_pydicoms(tmp_path: Path) -> None:
    stored, volume = write(tmp_path / "scan", {"WindowCenter": 300, "WindowWidth": 500})
    shown = with_voi_lut(volume).array
    expected = apply_voi_lut(stored, volume.source.datasets[0])
    np.testing.assert_allclose(shown, expected, atol=1e-3)
    assert len(np.unique(shown)) > 10


def test_a_table_goes_before_a_window(tmp_path: Path) -> None:
    stored, volume = write(tmp_path / "scan", {"WindowCenter": 300, "WindowWidth": 500}, table)
    np.testing.assert_allclose(with_voi_lut(volume).array, (1023 * (stored / 4095) ** 2).astype(int), atol=1)


@pytest.mark.parametrize("change", [None, table], ids=["window", "table"])
def test_an_inverted_film_shows_the_same_tissue_bright(change: object, tmp_path: Path) -> None:
    tags = {"WindowCenter": 2048, "WindowWidth": 4096, "PhotometricInterpretation": "MONOCHROME1"}
    stored, volume = write(tmp_path / "scan", tags, change)
    np.testing.assert_array_equal(volume.array, 4095 - stored)
    shown = with_voi_lut(volume).array
    order = np.argsort(volume.array, axis=None, kind="stable")
    assert (np.diff(shown.ravel()[order]) >= -1e-3).all()  # what was brighter is not darker now
    top = 4095 if change is None else 1023
    expected = top - np.asarray(apply_voi_lut(stored, volume.source.datasets[0]), dtype=float)
    np.testing.assert_allclose(shown, expected, atol=1e-3)


def test_without_a_table_nothing_happens(tmp_path: Path) -> None:
    _, volume = write(tmp_path / "scan", {})
    assert with_voi_lut(volume) is volume
    bare = Volume(np.zeros((2, 2, 2)), np.eye(4))
    assert with_voi_lut(bare) is bare


def test_a_view_that_is_not_there(tmp_path: Path) -> None:
    _, volume = write(tmp_path / "scan", {"WindowCenter": [40, 50], "WindowWidth": [400, 500]})
    assert (with_voi_lut(volume, 1).array != with_voi_lut(volume, 0).array).any()
    with pytest.raises(DataError, match="window or look-up table 2 cannot be applied"):
        with_voi_lut(volume, 2)


def test_the_loading_transform_does_it_on_request(tmp_path: Path) -> None:
    _, volume = write(tmp_path / "scan", {"WindowCenter": 300, "WindowWidth": 500})
    plain, shown = (
        LoadVolumed("image", voi_lut=voi_lut)({"image": str(tmp_path / "scan")})["image"] for voi_lut in (False, True)
    )
    np.testing.assert_allclose(shown[0].numpy(), with_voi_lut(volume).array, atol=1e-3)
    np.testing.assert_array_equal(plain[0].numpy(), volume.array)
