from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medresnet3d.data.checking import cases
from medresnet3d.data.checking.cases import CaseLooker, quick_digest
from medresnet3d.data.checking.ledger import CaseFiles
from tests.data.checking.cohorts import body, save_scan, scans, texture


def looker(**changes: Any) -> CaseLooker:
    return CaseLooker(**({"task": "segmentation", "classes": 2, "modality": "CT", "deep": True} | changes))


def case(*images: Path, mask: Path | None = None) -> CaseFiles:
    return CaseFiles(1, tuple(map(str, images)), None if mask is None else str(mask))


def test_what_is_seen_of_a_sound_case(tmp_path: Path) -> None:
    cohort = scans(tmp_path)
    files = case(cohort.file("s1.nii.gz"), mask=cohort.file("m1.nii.gz"))
    deep, shallow = looker()(files), looker(deep=False)(files)
    assert deep.problems == shallow.problems == []
    assert deep.size == shallow.size == cohort.file("s1.nii.gz").stat().st_size
    assert deep.labels is not None and list(deep.labels) == [0, 1] and shallow.labels is None
    assert deep.digest and deep.signs is None and shallow.digest is None
    assert deep.images[0].hounsfield == "units" and shallow.images[0].values is None


def test_pictures_have_signs(tmp_path: Path) -> None:
    texture(1).save(tmp_path / "a.png")
    assert looker()(case(tmp_path / "a.png")).signs


def test_modalities_are_told_apart(tmp_path: Path) -> None:
    for number in (1, 2):
        save_scan(tmp_path / f"{number}.nii", body(number))
    files = case(tmp_path / "1.nii", tmp_path / "2.nii")
    assert [one.hounsfield for one in looker(modality="CT, MR")(files).images] == ["units", None]
    assert [one.hounsfield for one in looker(modality="CT")(files).images] == ["units", "units"]


def test_modalities_on_other_grids(tmp_path: Path) -> None:
    save_scan(tmp_path / "1.nii", body(1))
    save_scan(tmp_path / "2.nii", body(2, (20, 20, 10)))
    for deep in (False, True):
        ((level, kind, text),) = looker(deep=deep)(case(tmp_path / "1.nii", tmp_path / "2.nii")).problems
        assert (level, kind) == ("error", "geometry") and "2.nii" in text


def test_masks_of_other_tasks_may_hold_anything(tmp_path: Path) -> None:
    save_scan(tmp_path / "i.nii", body(1))
    save_scan(tmp_path / "m.nii", (body(1) > 0).astype("uint8") * 9)
    files = case(tmp_path / "i.nii", mask=tmp_path / "m.nii")
    assert looker(task="classification")(files).problems == []
    assert len(looker()(files).problems) == 1


def test_what_is_to_be_converted_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "series.zip").write_bytes(b"no archive")
    assert looker(task="conversion")(case(tmp_path / "series.zip")).problems == []
    assert looker()(case(tmp_path / "series.zip")).problems


def test_an_unexpected_error_is_one_of_the_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(path: str) -> None:
        raise MemoryError("no memory left")

    save_scan(tmp_path / "i.nii", body(1))
    monkeypatch.setattr(cases, "load", stumble)
    ((level, kind, text),) = looker()(case(tmp_path / "i.nii")).problems
    assert (level, kind) == ("error", "file") and "i.nii: cannot be read (MemoryError: no memory left)" in text


def test_absent_files_are_named_with_their_role(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    look = looker()(case(tmp_path / "series", mask=tmp_path / "m.nii"))
    assert [text for _, _, text in look.problems] == [
        f"the image {tmp_path / 'series'} is an empty folder; copy it again from its source.",
        f"the mask {tmp_path / 'm.nii'} does not exist; correct the path.",
    ]
    assert look.size is None


def test_the_quick_digest_sees_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    middle = bytearray(3 * cases.ENDS)
    digests = []
    for place in (None, 0, len(middle) // 2, len(middle) - 1):
        content = bytearray(middle)
        if place is not None:
            content[place] = 1
        path.write_bytes(content)
        digests.append(quick_digest([str(path)]))
    assert len(set(digests)) == 3 and digests[0] == digests[2]
