from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medresnet3d.data.collections.lidc_readings import Part, cluster, consensus, read_reading
from medresnet3d.data.phantoms.dicom import phantom_uid, write_dicom_series
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io import load, require_same_grid
from tests.data.collections.trap import Result, write

AFFINE = np.array([[-0.5, 0, 0, 10], [0, -0.5, 0, 12], [0, 0, 2.0, -30], [0, 0, 0, 1.0]])
VOXELS = np.random.default_rng(0).integers(-900, 300, (20, 18, 6)).astype(np.int16)

Outline = tuple[int, int, int, int]
"""First column, first row, last column, last row."""


def roi(image: str, z: float, outline: Outline, inclusion: str = "TRUE") -> str:
    left, top, right, bottom = outline
    ring = [(x, top) for x in range(left, right)] + [(right, y) for y in range(top, bottom)]
    ring += [(x, bottom) for x in range(right, left, -1)] + [(left, y) for y in range(bottom, top, -1)]
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in ring or [(left, top)])
    where = f"<imageZposition>{z}</imageZposition><imageSOP_UID>{image}</imageSOP_UID>"
    return f"<roi>{where}<inclusion>{inclusion}</inclusion>{edges}</roi>"


def nodule(rois: str, malignancy: int | None = None, name: str = "Nodule 001") -> str:
    rated = "" if malignancy is None else f"<subtlety>5</subtlety><malignancy>{malignancy}</malignancy>"
    characteristics = f"<characteristics>{rated}</characteristics>" if rated else ""
    return f"<unblindedReadNodule><noduleID>{name}</noduleID>{characteristics}{rois}</unblindedReadNodule>"


def message(series: str, *sessions: str, tag: str = "SeriesInstanceUid", space: str = "http://www.nih.gov") -> str:
    read = "".join(
        f"<readingSession><servicingRadiologistID>anonymous</servicingRadiologistID>{one}</readingSession>"
        for one in sessions
    )
    header = f"<ResponseHeader><{tag}>{series}</{tag}></ResponseHeader>"
    return f'<?xml version="1.0"?>\n<LidcReadMessage xmlns="{space}">{header}{read}</LidcReadMessage>'


class Scan:
    """A CT series in the official layout, with its files in no order."""

    def __init__(self, root: Path, patient: str = "LIDC-IDRI-0001", study: str = "1") -> None:
        self.folder = root / "LIDC-IDRI" / patient / f"01-01-2000-NA-{study}" / "3000566.000000-NA"
        write_dicom_series(self.folder, VOXELS, AFFINE, patient_id=patient, study=study, file_names="shuffled")
        self.series = phantom_uid(patient, study, 1)
        self.uid: Callable[[int], str] = lambda k: phantom_uid(patient, study, 1, k)

    def rois(self, outline: Outline, slices: tuple[int, ...] = (2, 3)) -> str:
        return "".join(roi(self.uid(k), -30 + 2.0 * k, outline) for k in slices)

    def read(self, *sessions: str, name: str = "069.xml") -> None:
        write(self.folder / name, message(self.series, *sessions))


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    return Scan(tmp_path / "lidc")


def prepared(scan: Scan, task: str = "malignancy", **options: str) -> Result:
    return Result("lidc_idri", scan.folder.parents[3], task=task, options=options)


def drawn(result: Result) -> np.ndarray:
    (entry,) = result.entries()
    image, mask = load(result.file(entry["image"])), load(result.file(entry["mask"]))
    require_same_grid(image, mask)
    return mask.array


def test_the_outline_itself_is_outside_and_columns_come_first(scan: Scan) -> None:
    scan.read(nodule(scan.rois((4, 5, 10, 8)), 5))
    expected = np.zeros(VOXELS.shape)
    expected[5:10, 6:8, 2:4] = 1
    assert np.array_equal(drawn(prepared(scan, "nodules")), expected)


def test_a_hole_is_taken_out_whatever_its_place_in_the_file(scan: Scan) -> None:
    hole = roi(scan.uid(2), -26, (7, 7, 9, 9), "FALSE")
    scan.read(nodule(hole + scan.rois((4, 4, 12, 12)), 5))
    mask = drawn(prepared(scan, "nodules"))
    assert mask[5:12, 5:12, 3].all() and mask[:, :, 2].sum() == 49 - 9
    assert not mask[7:10, 7:10, 2].any()


def test_half_of_the_readers_decide(scan: Scan) -> None:
    narrow, wide = nodule(scan.rois((4, 4, 8, 8)), 4), nodule(scan.rois((4, 4, 12, 8)), 5)
    scan.read(narrow, narrow, wide)
    assert drawn(prepared(scan, "nodules")).sum() == 2 * 9
    scan.read(narrow, wide)
    assert drawn(prepared(scan, "nodules")).sum() == 2 * 21


def test_readers_number_their_nodules_by_themselves(scan: Scan) -> None:
    here, there = scan.rois((2, 2, 6, 6)), scan.rois((12, 10, 16, 14))
    scan.read(
        nodule(here, 5, "1") + nodule(there, 1, "2"), nodule(there, 2, "1") + nodule(here, 4, "9"), nodule(here, 5, "7")
    )
    found = {tuple(entry["malignancy"]): entry for entry in prepared(scan).entries()}
    assert {ratings: entry["label"] for ratings, entry in found.items()} == {
        (5, 4, 5): "malignant",
        (1, 2): "benign",
    }
    np.testing.assert_allclose(found[5, 4, 5]["position"], (AFFINE @ [4, 4, 2.5, 1])[:3])
    np.testing.assert_allclose(found[1, 2]["position"], (AFFINE @ [14, 12, 2.5, 1])[:3])


def test_two_outlines_of_one_reader_are_two_nodules(scan: Scan) -> None:
    scan.read(
        nodule(scan.rois((4, 4, 9, 9)), 5) + nodule(scan.rois((8, 4, 13, 9)), 5), nodule(scan.rois((4, 4, 10, 9)), 4)
    )
    assert sorted(entry["malignancy"] for entry in prepared(scan).entries()) == [[5], [5, 4]]


def test_a_mean_of_three_is_neither_and_few_readers_can_be_left_out(scan: Scan) -> None:
    rois = scan.rois((4, 4, 9, 9))
    scan.read(nodule(rois, 2), nodule(rois, 4), nodule(rois, 3))
    with pytest.raises(DataError, match="1 malignancy of 3, neither benign nor malignant"):
        prepared(scan)
    scan.read(nodule(rois, 1), nodule(rois, 3), nodule(rois, 4))
    assert prepared(scan).entries()[0]["label"] == "benign"
    with pytest.raises(DataError, match="neither benign nor malignant"):
        prepared(scan, average="median")
    with pytest.raises(DataError, match="1 nodule of fewer than 4 readers"):
        prepared(scan, readers="4")
    assert prepared(scan, readers="3").entries()[0]["readers"] == 3


def test_single_points_are_nodules_below_3_mm(scan: Scan) -> None:
    small = nodule(roi(scan.uid(4), -22, (3, 3, 3, 3)), None, "IL057_129655")
    scan.read(small + nodule(scan.rois((4, 4, 9, 9)), 5), small)
    result = prepared(scan)
    assert len(result.entries()) == 1
    assert result.dropped == {"mark of a nodule below 3 mm": 2}


def test_slices_are_found_by_their_position_where_their_uid_is_unknown(scan: Scan) -> None:
    rois = roi("1.2.3", -26.3, (4, 4, 9, 9)) + roi("1.2.4", -3.0, (4, 4, 9, 9))
    scan.read(nodule(rois, 5))
    mask = drawn(prepared(scan, "nodules"))
    assert mask[:, :, 2].sum() == mask.sum() == 16


def test_two_scans_of_one_patient_stay_together(scan: Scan) -> None:
    other = Scan(scan.folder.parents[3], study="2")
    for one in (scan, other):
        one.read(nodule(one.rois((4, 4, 9, 9)), 5))
    entries = prepared(scan).entries()
    assert len(entries) == 2 and {entry["patient"] for entry in entries} == {"LIDC-IDRI-0001"}


def test_radiographs_and_their_readings_are_left_out(scan: Scan) -> None:
    scan.read(nodule(scan.rois((4, 4, 9, 9)), 5))
    chest = scan.folder.parents[1] / "01-01-2000-35511" / "3000923-62357"
    write_dicom_series(chest, VOXELS[:, :, :1], AFFINE, series_number=9, header={"Modality": "DX"})
    header = f"<CTSeriesInstanceUid>{scan.series}</CTSeriesInstanceUid><CXRSeriesInstanceUid>1.2</CXRSeriesInstanceUid>"
    write(
        chest / "071.xml",
        f'<IdriReadMessage xmlns="http://www.nih.gov/idri"><ResponseHeader>{header}</ResponseHeader></IdriReadMessage>',
    )
    result = prepared(scan)
    assert len(result.entries()) == 1
    assert result.dropped == {"XML that is no reading of a CT": 1, "series that is no CT": 1}


def test_readings_in_a_folder_of_their_own_match_by_series(scan: Scan) -> None:
    root = scan.folder.parents[3]
    text = message(scan.series, nodule(scan.rois((4, 4, 9, 9)), 5))
    write(root / "LIDC-XML-only" / "tcia-lidc-xml" / "157" / "158.xml", text)
    write(root / "LIDC-XML-only" / "tcia-lidc-xml" / "157" / "159.xml", message("1.2.3", ""))
    result = prepared(scan)
    assert [entry["label"] for entry in result.entries()] == ["malignant"]
    assert result.dropped == {"reading of a scan that is not there": 1}


def test_a_correction_counts_before_what_it_corrects(scan: Scan) -> None:
    scan.read(nodule(scan.rois((4, 4, 9, 9)), 1), name="161.xml")
    scan.read(nodule(scan.rois((4, 4, 9, 9)), 5), name="161-resubmitted-correction.xml")
    result = prepared(scan)
    assert [entry["label"] for entry in result.entries()] == ["malignant"]
    assert result.dropped == {"second reading of one scan": 1}


def test_spellings_of_the_header_and_other_namespaces(tmp_path: Path) -> None:
    for tag in ("SeriesInstanceUid", "SeriesInstanceUID"):
        reading = read_reading(write(tmp_path / "a.xml", message("1.2.3", tag=tag, space="http://www.nih.gov/x")))
        assert reading is not None and reading.series == "1.2.3"
    with pytest.raises(DataError, match="names no SeriesInstanceUid"):
        read_reading(write(tmp_path / "a.xml", message("1.2.3", tag="SeriesUid")))
    with pytest.raises(DataError, match="not readable as XML"):
        read_reading(write(tmp_path / "a.xml", "<LidcReadMessage>"))


def test_boxes_are_in_mm_and_thick_slices_can_be_left_out(scan: Scan) -> None:
    scan.read(nodule(scan.rois((4, 5, 10, 8)), 5))
    (entry,) = prepared(scan, "boxes").entries()
    corners = np.array([[4.5, 5.5, 1.5, 1], [9.5, 7.5, 3.5, 1]]) @ AFFINE.T
    np.testing.assert_allclose(entry["boxes"], [[*corners[:, :3].min(0), *corners[:, :3].max(0)]])
    with pytest.raises(DataError, match=r"1 scan of slices above 1\.5 mm"):
        prepared(scan, max_thickness="1.5")


def test_a_scan_without_nodules_is_a_scan_for_detection(scan: Scan) -> None:
    scan.read("", "")
    (entry,) = prepared(scan, "boxes").entries()
    assert entry["boxes"] == []
    with pytest.raises(DataError, match="1 scan without a nodule"):
        prepared(scan, "nodules")


def test_choices_are_checked(scan: Scan) -> None:
    scan.read("")
    with pytest.raises(ConfigError, match="choose mean or median"):
        prepared(scan, average="mode")
    with pytest.raises(ConfigError, match="give 1 to 4"):
        prepared(scan, readers="5")


def _ball(centre: tuple[int, int, int], radius: int) -> Part:
    grid = np.indices((2 * radius + 1,) * 3) - radius
    return Part(np.array(centre) - radius, (grid**2).sum(0) <= radius**2)


def test_near_centres_are_one_nodule_in_mm_not_in_voxels() -> None:
    parts = [_ball((10, 10, 10), 2), _ball((10, 10, 15), 2)]
    assert cluster(parts, [0, 1], np.array([1.0, 1.0, 1.0])) == [[0], [1]]
    assert cluster(parts, [0, 1], np.array([1.0, 1.0, 0.2])) == [[0, 1]]
    shell = Part(np.array([6, 6, 6]), ~_ball((4, 4, 4), 3).mask)
    assert cluster([shell, _ball((9, 9, 9), 1)], [0, 1], np.ones(3)) == [[0, 1]], "near, though they do not overlap"


def test_consensus_without_agreement_is_all_that_was_outlined() -> None:
    parts = [_ball((5, 5, 5), 1), _ball((15, 5, 5), 1), _ball((25, 5, 5), 1)]
    assert consensus(parts).mask.sum() == sum(part.mask.sum() for part in parts)
