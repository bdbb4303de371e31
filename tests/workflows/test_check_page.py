from __future__ import annotations

import re
from pathlib import Path

import pytest

from medresnet3d.workflows.check_data import check_data
from medresnet3d.workflows.check_page import MOST_CARDS
from tests.data.checking.cohorts import Cohort, all_of, cut, picture, pictures, regridded, rewritten, scans, texture
from tests.data.checking.cohorts import affine_of as affine


@pytest.fixture
def planted(tmp_path: Path) -> Cohort:
    cohort = scans(tmp_path)
    cohort.change(5, patient="patient1")  # in another fold
    spacing = regridded(3, affine((0.8, 0.8, 5.0)))
    all_of(spacing, rewritten(7, lambda a: a * 0, "m"), cut("s9.nii.gz", 0.8))(cohort)
    return cohort


def page(cohort: Cohort, **choices: str | bool) -> str:
    check_data(cohort.path, output=cohort.file("out"), **{"deep": True, **choices})  # type: ignore[arg-type]
    return cohort.file("out/report.html").read_text()


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<(script|style).*?</\\1>|<[^>]+>", " ", html, flags=re.DOTALL))


def test_the_page_shows_findings_histograms_and_thumbnails(planted: Cohort) -> None:
    html = page(planted)
    text = text_of(html)
    assert (
        "Not for clinical use" in text
        and "Cohort scans" in text
        and "http://" not in re.sub(r"http://www\.w3[^\"]*", "", html)
    )
    assert "spacing along k, mm: 5 (usual 2.08 to 3)" in text and "is empty; is nothing there" in text
    assert "damaged or cut short" in text
    assert html.count("data:image/svg+xml") >= 3  # spacing, range and mean differ
    assert text.count("entry 3 of training") >= 2  # in the table and as the title of a card
    assert html.count("data:image/png") >= 3


def test_nobody_is_named_unless_it_is_wanted(planted: Cohort) -> None:
    for phi in ("none", "pseudonym"):
        html = page(planted, phi=phi)
        assert "patient1" not in html and "s9.nii" not in html and "m7.nii" not in html
        assert str(planted.folder) not in html
        assert ("anon-" in html) == (phi == "pseudonym")
    html = page(planted, phi="keep")
    assert "patient1" in html and "s9.nii.gz" in html and str(planted.path) in html


def test_without_voxels_there_are_no_pictures(planted: Cohort) -> None:
    html = page(planted, deep=False)
    assert "data:image/png" not in html and "--deep looks at them too" in html
    assert "spacing along k, mm: 5" in text_of(html)


def test_look_alikes_are_shown_in_pairs(tmp_path: Path) -> None:
    cohort = pictures(tmp_path)
    picture(3, lambda: texture(2), ".jpg")(cohort)
    html = page(cohort)
    assert "entry 2 of training and entry 3 of training" in html and html.count("data:image/png") == 2


def test_few_of_many_are_drawn(tmp_path: Path) -> None:
    cohort = scans(tmp_path)
    raw = cohort.raw
    for number in range(1, 13):
        rewritten(number, lambda a: a * 0, "m")(cohort)
        twin = {**raw["training"][number - 1], "image": f"t{number}.nii.gz", "patient": f"t{number}"}
        cohort.file(twin["image"]).write_bytes(cohort.file(f"s{number}.nii.gz").read_bytes())
        raw["training"].append(twin)
    cohort.write(raw)
    assert page(cohort).count("is empty; is nothing there, or was it not drawn?</li>") == MOST_CARDS
