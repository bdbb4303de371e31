from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset

from medresnet3d.errors import AmbiguousInputError, ConfigError, DataError, ExitCode
from medresnet3d.io import SeriesInfo, Volume, load, save_nifti
from medresnet3d.workflows.convert import Conversion, convert, list_scans
from medresnet3d.workflows.pseudonym import pseudonym
from tests.io.dicom_maker import OBLIQUE, Series, stored_values

SCOUT = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}


def study(folder: Path, name: str = "DOE^JOHN") -> Path:
    """Two sound series, one with a slice missing, and a localiser."""
    Series(stored_values(), number=4, description="thorax").write(folder / name / "a")
    Series(stored_values(seed=1), number=5, description="thin", orientation=OBLIQUE).write(folder / name / "b")
    Series(stored_values(), number=6, description="gap").write(folder / name / "c", skip=(2,))
    Series(stored_values((7, 6, 1)), number=1, description="scout", tags=SCOUT).write(folder / name / "d")
    return folder / name


def rows(done: Conversion) -> dict[str, dict[str, Any]]:
    assert done.index is not None
    content = json.loads(done.index.read_text(encoding="utf-8"))
    assert content["series"] == done.rows
    return {row["id"]: row for row in content["series"]}


def same_image(path: Path, volume: Volume) -> bool:
    image = nib.nifti1.load(path)
    return np.array_equal(image.get_fdata(), volume.array) and np.allclose(image.affine, volume.affine, atol=1e-4)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_one_series_into_one_file(tmp_path: Path, suffix: str) -> None:
    series = Series(stored_values(), orientation=OBLIQUE)
    folder = series.write(tmp_path / "scan")
    done = convert(folder, tmp_path / "out" / f"x{suffix}")
    assert (done.files, done.exit_code) == ({"4": tmp_path / "out" / f"x{suffix}"}, ExitCode.OK)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"x{suffix}", "x.json"}
    read = load(tmp_path / "out" / f"x{suffix}")
    assert np.array_equal(read.array, series.stored - 1024)
    np.testing.assert_allclose(read.affine, series.affine, atol=1e-4)


def test_every_volume_of_a_folder(tmp_path: Path) -> None:
    folder = study(tmp_path)
    done = convert(folder, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"series_{number}.nii.gz" for number in (4, 5, 6)),
        "series.json",
    }
    assert done.exit_code == ExitCode.OK and not done.errors
    for number in ("4", "5", "6"):
        assert same_image(done.files[number], load(folder, series=number))
    said = rows(done)
    assert list(said) == ["1", "4", "5", "6"]
    assert said["1"]["file"] is None and said["1"]["note"] == "a localiser"
    assert said["4"]["file"] == "series_4.nii.gz" and said["4"]["description"] == "thorax"
    assert (said["4"]["shape"], said["4"]["spacing_mm"], said["4"]["modality"]) == ([7, 6, 5], [0.8, 1.1, 2.5], "CT")
    np.testing.assert_allclose(said["4"]["affine_to_ras_mm"], load(folder, series="4").affine, atol=1e-6)
    assert said["4"]["acquisition"]["SliceThickness"] == 2.5
    assert "missing" in said["6"]["warnings"][0] and not said["4"]["warnings"]


def test_several_volumes_and_the_name_of_a_file(tmp_path: Path) -> None:
    done = convert(study(tmp_path), tmp_path / "x.nii.gz")
    assert [path.name for path in done.files.values()] == ["x_4.nii.gz", "x_5.nii.gz", "x_6.nii.gz"]
    assert done.index == tmp_path / "x.json" and not (tmp_path / "x.nii.gz").exists()


def test_strict_refuses_what_would_be_repaired(tmp_path: Path) -> None:
    folder = study(tmp_path)
    done = convert(folder, tmp_path / "out", strict=True)
    assert list(done.files) == ["4", "5"] and list(done.errors) == ["6"]
    assert done.exit_code == ExitCode.SOME_FAILED
    assert "1 slice is missing" in rows(done)["6"]["error"]
    only = convert(folder, tmp_path / "only", series="6", strict=True)
    assert only.exit_code == ExitCode.NOTHING_DONE and only.index is None and not (tmp_path / "only").exists()


def test_one_series_of_several(tmp_path: Path) -> None:
    folder = study(tmp_path)
    uid = load(folder, series="5").source.series
    for choice in ("5", uid):
        done = convert(folder, tmp_path / "x.nii", series=choice)
        assert list(done.files) == ["5"] and same_image(tmp_path / "x.nii", load(folder, series="5"))
    assert convert(folder, tmp_path / "out", series="5").files["5"].name == "series_5.nii.gz"


def test_a_series_that_is_not_there_or_means_several(tmp_path: Path) -> None:
    def echo(ds: Dataset, k: int) -> None:
        ds.EchoTime = 10.0

    folder = study(tmp_path)
    with pytest.raises(AmbiguousInputError, match=r"there is no series '9'.*\n.*1: scout.*\n  4: thorax"):
        convert(folder, tmp_path / "x.nii", series="9")
    first = Series(stored_values(), number=8, description="echoes", change=echo)
    first.write(tmp_path / "two")
    Series(stored_values(), number=8, description="echoes", uid=first.uid).write(tmp_path / "two", prefix="b")
    with pytest.raises(AmbiguousInputError, match="several volumes in series"):
        convert(tmp_path / "two", tmp_path / "x.nii", series=first.uid)
    done = convert(tmp_path / "two", tmp_path / "x.nii")
    assert [path.name for path in done.files.values()] == ["x_8.1.nii", "x_8.2.nii"]


def test_other_ways_to_name_dicom(tmp_path: Path) -> None:
    folder = Series(stored_values()).write(tmp_path / "scan")
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    for source in (tmp_path / "scan.zip", sorted(folder.iterdir())):
        convert(source, tmp_path / "x.nii")
        assert same_image(tmp_path / "x.nii", load(folder))


def test_one_slice_where_its_folder_was_meant(tmp_path: Path) -> None:
    folder = Series(stored_values()).write(tmp_path / "scan")
    done = convert(folder / "000.dcm", tmp_path / "x.nii")
    assert "its folder holds 4 more DICOM files; name the folder" in done.rows[0]["warnings"][-1]
    (tmp_path / "alone").mkdir()
    (folder / "000.dcm").rename(tmp_path / "alone" / "000.dcm")
    assert not any(
        "folder" in text for text in convert(tmp_path / "alone" / "000.dcm", tmp_path / "x.nii").rows[0]["warnings"]
    )


def test_other_formats(tmp_path: Path) -> None:
    convert(Series(stored_values()).write(tmp_path / "scan"), tmp_path / "a.nii.gz")
    done = convert(tmp_path / "a.nii.gz", tmp_path / "b.mha")
    assert np.array_equal(load(tmp_path / "b.mha").array, load(tmp_path / "a.nii.gz").array)
    assert rows(done)["1"]["source"] == {"format": "nifti", "files": 1}


def test_the_volumes_of_a_nifti_file(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((5, 4, 3, 2)).astype(np.float32)
    for suffix in (".nii", ".nii.gz"):
        nib.nifti1.Nifti1Image(array, np.diag([1, 2, 3, 1])).to_filename(tmp_path / f"four{suffix}")
        done = convert(tmp_path / f"four{suffix}", tmp_path / "all.nii")
        assert [path.name for path in done.files.values()] == ["all_0.nii", "all_1.nii"] and len(rows(done)) == 2
        for number in (0, 1):
            assert np.array_equal(load(tmp_path / f"all_{number}.nii").array, array[..., number])
            assert load(tmp_path / f"all_{number}.nii").spacing == (1.0, 2.0, 3.0)
        convert(tmp_path / f"four{suffix}", tmp_path / "x.nii", series="1")
        assert np.array_equal(load(tmp_path / "x.nii").array, array[..., 1])
    with pytest.raises(AmbiguousInputError, match="one of its 2 volumes"):
        list_scans(tmp_path / "four.nii")


def test_a_file_that_ends_within_its_second_volume(tmp_path: Path) -> None:
    nib.nifti1.Nifti1Image(np.ones((5, 4, 3, 2), np.float32), np.eye(4)).to_filename(tmp_path / "four.nii")
    content = (tmp_path / "four.nii").read_bytes()
    (tmp_path / "four.nii").write_bytes(content[:-20])
    done = convert(tmp_path / "four.nii", tmp_path / "x.nii")
    assert list(done.files) == ["0"] and list(done.errors) == ["1"] and done.exit_code == ExitCode.SOME_FAILED
    assert "cut short" in rows(done)["1"]["error"]


def test_the_pages_of_a_tiff_file(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (1, 2, 3)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    done = convert(tmp_path / "pages.tif", tmp_path / "x.nii")
    assert [load(path, constant_ok=True).array[0, 0, 0] for path in done.files.values()] == [1, 2, 3]


def test_voxels_that_are_not_finite_are_written_with_a_warning(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
    array[0, 0, 0], array[1, 0, 0] = np.nan, np.inf
    nib.nifti1.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / "map.nii")
    done = convert(tmp_path / "map.nii", tmp_path / "x.nii")
    assert "2 of 60 voxels are NaN or infinite; they were written so" in rows(done)["1"]["warnings"][-1]
    assert np.array_equal(nib.nifti1.load(tmp_path / "x.nii").get_fdata(), array, equal_nan=True)
    with pytest.raises(DataError, match="2 of 60 voxels are NaN or infinite"):
        load(tmp_path / "x.nii")


def test_an_interruption_leaves_what_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(array: np.ndarray, affine: np.ndarray, path: Path, **more: Any) -> Path:
        if path.name == "series_5.nii.gz":
            raise KeyboardInterrupt
        return save_nifti(array, affine, path, **more)

    folder = study(tmp_path)
    monkeypatch.setattr("medresnet3d.workflows.convert.save_nifti", interrupted)
    with pytest.raises(KeyboardInterrupt, match="Interrupted; 1 of the volumes is complete"):
        convert(folder, tmp_path / "out")
    said = json.loads((tmp_path / "out" / "series.json").read_text(encoding="utf-8"))["series"]
    assert [row["file"] for row in said if row["file"]] == ["series_4.nii.gz"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"series_4.nii.gz", "series.json"}


def test_only_colour(tmp_path: Path) -> None:
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    colour |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": bytes(7 * 6 * 3)}
    folder = Series(stored_values((7, 6, 1)), tags=colour).write(tmp_path / "scan")
    with pytest.raises(DataError, match="holds only a colour image, and convert writes grey images only"):
        convert(folder, tmp_path / "out")


def test_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    convert(tmp_path / "grey.png", tmp_path / "grey.nii")
    assert np.array_equal(load(tmp_path / "grey.nii").array[..., 0], pixels[..., 0].T)
    for suffix in (".nii", ".mha"):
        done = convert(tmp_path / "colour.png", tmp_path / f"colour{suffix}")
        assert done.exit_code == ExitCode.NOTHING_DONE and done.index is None
        assert "is a colour picture; convert writes grey images only" in str(done.errors["1"])


def test_an_image_of_one_value_is_converted(tmp_path: Path) -> None:
    folder = Series(np.zeros((5, 4, 3), np.int16)).write(tmp_path / "scan")
    assert convert(folder, tmp_path / "x.nii").exit_code == ExitCode.OK


def test_patient_data_only_where_wanted(tmp_path: Path) -> None:
    tags = {"PatientAge": "061Y", "InstitutionName": "General Hospital", "AcquisitionDate": "20200102"}
    folder = study(tmp_path)
    Series(stored_values(), number=7, tags=tags).write(folder / "e")
    secrets = ["P1", "Phantom", "061Y", "General", "2020", "DOE", "1.2.3.4", "1.2.826"]
    for phi in ("none", "pseudonym"):
        done = convert(folder, tmp_path / phi, strict=True, phi=phi)
        assert done.index is not None
        content = done.index.read_text(encoding="utf-8")
        assert not [secret for secret in secrets if secret in content]
        assert rows(done)["7"].get("patient") == (None if phi == "none" else pseudonym("P1"))
        uid = convert(folder, tmp_path / phi, series=load(folder, series="7").source.series, phi=phi)
        assert uid.index is not None and "1.2.826" not in uid.index.read_text(encoding="utf-8")
    kept = rows(convert(folder, tmp_path / "keep", phi="keep"))["7"]
    assert kept["patient"] == "P1" and kept["identity"]["PatientName"] == "Phantom"
    assert kept["identity"]["InstitutionName"] == "General Hospital"


def test_the_list(tmp_path: Path) -> None:
    found = list_scans(study(tmp_path))
    assert isinstance(found, list) and [info.id for info in found] == ["1", "4", "5", "6"]
    assert all(isinstance(info, SeriesInfo) for info in found)
    convert(tmp_path / "DOE^JOHN", tmp_path / "x.nii", series="4")
    single = list_scans(tmp_path / "x.nii")
    assert isinstance(single, Volume) and single.shape == (7, 6, 5)


@pytest.mark.parametrize("name", ["x.dcm", "x.png", "x.mhd", "x.gz", "there.txt", "file"])
def test_outputs_that_cannot_be_meant(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    folder = Series(stored_values()).write(tmp_path / "scan")
    with pytest.raises(ConfigError, match=r"end it in \.nii\.gz, \.nii, \.mha, \.nrrd, or name a folder"):
        convert(folder, tmp_path / name)


def test_nothing_of_the_user_is_overwritten(tmp_path: Path) -> None:
    folder = Series(stored_values()).write(tmp_path / "scan")
    convert(folder, tmp_path / "x.nii")
    convert(folder, tmp_path / "x.nii")
    with pytest.raises(ConfigError, match="is the input itself"):
        convert(tmp_path / "x.nii", tmp_path / "x.nii")
    for content in ('{"name": "m", "task": "segmentation"}', "no JSON", "3"):
        (tmp_path / "m.json").write_text(content)
        with pytest.raises(ConfigError, match=r"m\.json: the list of what each image is would replace this file"):
            convert(folder, tmp_path / "m.nii")
        assert (tmp_path / "m.json").read_text() == content


def test_inputs_that_cannot_be_used(tmp_path: Path) -> None:
    folder = study(tmp_path)
    with pytest.raises(DataError, match="gone: no such file or folder"):
        convert(tmp_path / "gone", tmp_path / "out")
    with pytest.raises(ConfigError, match="is one of 2 inputs; convert folders one by one"):
        convert([folder, folder], tmp_path / "out")
    with pytest.raises(ConfigError, match="no input is given"):
        convert([], tmp_path / "out")
    with pytest.raises(ConfigError, match="--phi x: this choice is unknown"):
        convert(folder, tmp_path / "out", phi="x")
    convert(folder, tmp_path / "a.nii", series="4")
    with pytest.raises(ConfigError, match=r"--series 4: .*a\.nii holds one image, so there is nothing to choose"):
        convert(tmp_path / "a.nii", tmp_path / "b.nii", series="4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folder is empty"):
        convert(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_volume_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(array: np.ndarray, affine: np.ndarray, path: Path, **more: Any) -> Path:
        if path.name == "series_5.nii.gz":
            raise DataError(f"{path}: the disk is full")
        return save_nifti(array, affine, path, **more)

    monkeypatch.setattr("medresnet3d.workflows.convert.save_nifti", full)
    done = convert(study(tmp_path), tmp_path / "out")
    assert list(done.files) == ["4", "6"] and "disk is full" in rows(done)["5"]["error"]


def test_a_damaged_series_stops_nothing(tmp_path: Path) -> None:
    folder = study(tmp_path)
    victim = next((folder / "b").iterdir())
    victim.write_bytes(victim.read_bytes()[:-20])
    done = convert(folder, tmp_path / "out")
    assert list(done.errors) == ["5"] and list(done.files) == ["4", "6"]
    assert done.exit_code == ExitCode.SOME_FAILED
    assert not list((tmp_path / "out").glob(".*"))


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(2, 6)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 4.0)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    turn=st.permutations([0, 1, 2]),
    sign=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 2),
)
def test_any_grid_survives(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    turn: list[int],
    sign: tuple[float, float],
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    axes = np.eye(3)[turn]
    series = Series(
        stored_values(shape),
        orientation=(*(sign[0] * axes[0]), *(sign[1] * axes[1])),
        spacing=spacing,
        origin=origin,
    )
    convert(series.write(folder / "scan"), folder / "x.nii")
    image = nib.nifti1.load(folder / "x.nii")
    assert np.array_equal(image.get_fdata(), series.stored - 1024)
    np.testing.assert_allclose(image.affine, series.affine, atol=1e-3)
