from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.uid import UID

from medresnet3d.data import items
from medresnet3d.data.phantoms.luna16 import LunaScan, luna_scan, write_luna16, write_nodule_scans

OPTIONS: dict[str, Any] = {"shape": (72, 60, 40), "spacing": (2.0, 2.0, 2.5), "nodules": 3, "distractors": 3}
PATIENTS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_luna16(tmp_path_factory.mktemp("luna16"), PATIENTS, seed=1, **OPTIONS)


@pytest.fixture(scope="module")
def scans() -> list[LunaScan]:
    return [luna_scan(1, patient, **OPTIONS) for patient in range(PATIENTS)]


def test_layout_is_the_official_one(folder: Path, scans: list[LunaScan]) -> None:
    names = {path.name for path in folder.iterdir()}
    tables = {"annotations.csv", "candidates.csv", "candidates_V2.csv", "annotations_excluded.csv"}
    assert names == {*(f"subset{n}" for n in range(10)), *tables, "sampleSubmission.csv", "seg-lungs-LUNA16"}
    for scan in scans:
        assert UID(scan.uid).is_valid
        assert (folder / f"subset{scan.subset}" / f"{scan.uid}.raw").stat().st_size == scan.phantom.array.nbytes
        assert (folder / "seg-lungs-LUNA16" / f"{scan.uid}.zraw").is_file()
    columns = {name: list(pd.read_csv(folder / name).columns) for name in tables}
    assert columns["annotations.csv"] == ["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"]
    assert columns["annotations_excluded.csv"] == columns["annotations.csv"]
    assert columns["candidates.csv"] == ["seriesuid", "coordX", "coordY", "coordZ", "class"]
    assert columns["candidates_V2.csv"] == columns["candidates.csv"]
    assert list(pd.read_csv(folder / "sampleSubmission.csv").columns)[-1] == "probability"
    assert not list(folder.rglob(".*")), "no temporary file is left"


def test_simpleitk_finds_every_nodule_at_its_world_coordinates(folder: Path, scans: list[LunaScan]) -> None:
    annotations = pd.read_csv(folder / "annotations.csv")
    assert len(annotations) == sum(len(scan.phantom.nodules) for scan in scans)
    for scan in scans:
        image = sitk.ReadImage(str(folder / f"subset{scan.subset}" / f"{scan.uid}.mhd"))
        for row, nodule in zip(
            annotations[annotations.seriesuid == scan.uid].itertuples(), scan.phantom.nodules, strict=True
        ):
            index = image.TransformPhysicalPointToIndex((row.coordX, row.coordY, row.coordZ))
            assert image[index] == scan.phantom.array[index]
            assert scan.phantom.nodule_mask[index] == nodule.number
            assert row.diameter_mm == pytest.approx(nodule.diameter_mm, abs=1e-4)


def test_ignoring_a_flipped_direction_misses_the_nodules(folder: Path, scans: list[LunaScan]) -> None:
    flipped = scans[3]
    image = sitk.ReadImage(str(folder / "subset3" / f"{flipped.uid}.mhd"))
    assert image.GetDirection() == (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    assert len(flipped.phantom.nodules) > 0
    for nodule in flipped.phantom.nodules:
        naive = np.rint((np.array(nodule.centre_lps) - image.GetOrigin()) / image.GetSpacing()).astype(int)
        inside = ((naive >= 0) & (naive < image.GetSize())).all()
        assert not inside or flipped.phantom.nodule_mask[tuple(naive)] != nodule.number


def test_candidates_agree_with_annotations(folder: Path) -> None:
    annotations, candidates = (pd.read_csv(folder / name) for name in ("annotations.csv", "candidates.csv"))
    positive = candidates[candidates["class"] == 1]
    assert len(positive) == len(annotations)
    assert (candidates["class"] == 0).any()
    for row in positive.itertuples():
        near = annotations[annotations.seriesuid == row.seriesuid]
        gap = np.linalg.norm(near[["coordX", "coordY", "coordZ"]] - (row.coordX, row.coordY, row.coordZ), axis=1)
        assert (gap < near.diameter_mm / 2).any()


def test_lung_masks_lie_on_their_scans(folder: Path, scans: list[LunaScan]) -> None:
    scan = scans[0]
    mask = sitk.ReadImage(str(folder / "seg-lungs-LUNA16" / f"{scan.uid}.mhd"))
    image = sitk.ReadImage(str(folder / "subset0" / f"{scan.uid}.mhd"))
    assert mask.GetOrigin() == image.GetOrigin() and mask.GetDirection() == image.GetDirection()
    codes, values = sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(image)
    assert set(np.unique(codes)) == {0, 3, 4, 5}
    assert np.median(values[codes == 5]) < -950 < np.median(values[(codes == 3) | (codes == 4)]) < -800


def test_traps_are_there_and_the_seed_decides_everything(scans: list[LunaScan], tmp_path: Path) -> None:
    assert len({tuple(scan.phantom.affine[:3, 3]) for scan in scans}) == PATIENTS
    thick = luna_scan(1, 2, shape=(40, 40, 40), spacing=(3.0, 3.0, 2.0), nodules=2).phantom
    assert thick.affine[2, 2] == 2.5 and thick.array.shape == (40, 40, 32)
    again = write_luna16(tmp_path, 1, seed=1, **OPTIONS)
    stored = (again / "subset0" / f"{scans[0].uid}.raw").read_bytes()
    assert stored == np.ascontiguousarray(scans[0].phantom.array.transpose(2, 1, 0)).tobytes()
    assert luna_scan(2, 0, **OPTIONS).uid != scans[0].uid


def test_a_cohort_for_detection_lists_whole_scans_with_boxes_of_the_asked_sizes(tmp_path: Path) -> None:
    options: dict[str, Any] = {"shape": (40, 34, 24), "spacing": (4.0, 4.0, 4.0), "nodules": 2, "distractors": 2}
    manifest = write_nodule_scans(tmp_path, 4, 1, diameters_mm=(14.0, 20.0), **options)
    sections = [items(manifest, name) for name in ("training", "validation", "test")]
    assert [len(section) for section in sections] == [2, 1, 1]
    edges = [box[3] - box[0] for section in sections for entry in section for box in entry["boxes"]]
    assert edges and min(edges) > 13.9 and max(edges) < 20.1
    assert len({entry["patient"] for section in sections for entry in section}) == 4
