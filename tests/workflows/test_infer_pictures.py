"""Pictures of all kinds through ``infer``: read right, answered in their own size, with no millimetres anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import Dataset, dcmread

from medresnet3d.bundle.load import load_config
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.data.phantoms.fundus_lesions import fundus_photograph
from medresnet3d.data.preparation.radiographs import write_mammogram
from medresnet3d.workflows.infer import infer

ROWS, COLUMNS = 60, 90
SETTINGS: dict[str, Any] = {"image_size": 64, "flips": []}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with random weights, of which the last layer's are so large that every colour has an answer."""
    import shutil

    root = tmp_path_factory.mktemp("bundle") / "macular_edema_cascade"
    shutil.copytree(find_bundle("macular_edema_cascade"), root)
    torch.manual_seed(0)
    network = load_config(root, ("inference.json",)).get_parsed_content("network_def")
    network.heads[0].weight.data.mul_(3000)
    (root / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


@pytest.fixture(scope="module")
def colours() -> np.ndarray:
    return fundus_photograph(7, "exudates", (ROWS, COLUMNS)).picture


def write(path: Path, colours: np.ndarray) -> Path:
    """Write the photograph in the way that the file's name says."""
    picture = Image.fromarray(colours)
    if path.stem == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.rotate(90, expand=True).save(path, exif=exif)
    elif path.stem == "palette":
        picture.quantize(256).save(path)
    elif path.stem == "alpha":
        picture.convert("RGBA").save(path)
    elif path.stem == "cmyk":
        picture.convert("CMYK").save(path)
    elif path.stem == "deep":
        import SimpleITK as sitk  # noqa: N813

        sitk.WriteImage(sitk.GetImageFromArray(colours.astype(np.uint16) * 257, isVector=True), str(path))
    elif path.stem == "grey":
        picture.convert("L").save(path)
    else:
        picture.save(path)
    return path


KINDS = [
    *("plain.jpg", "plain.png", "plain.tif", "plain.bmp", "turned.jpg", "palette.png"),
    *("alpha.png", "cmyk.jpg", "cmyk.tif", "deep.png", "deep.tif", "grey.png"),
]


def test_every_kind_of_picture(bundle: Path, colours: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, name in enumerate(KINDS):
        folder = tmp_path / "in" / f"{number:02d}"
        folder.mkdir()
        write(folder / name, colours)
    inputs = [path for number in range(len(KINDS)) for path in (tmp_path / "in" / f"{number:02d}").iterdir()]
    summary = infer(bundle, inputs, tmp_path / "out", device="cpu", set=SETTINGS)
    assert not summary.errors
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    maps = {}
    for row, path in zip(rows, inputs, strict=True):
        files = [tmp_path / "out" / name for name in row["files"]]
        assert [file.name.rsplit("_", 1)[1] for file in files] == ["seg.png", "overlay.png", "probability.png"]
        answer, overlay, probability = (Image.open(file) for file in files)
        assert answer.size == overlay.size == probability.size == (COLUMNS, ROWS), path.name
        maps[path.name] = np.asarray(answer)
        assert row["details"]["pixels"] == {"exudate": int((maps[path.name] > 0).sum())}
        told = " ".join(row["warnings"])
        assert "voxel size" not in told and "mm" not in told
        assert ("upright" in told) == (path.stem == "turned") and ("transparency" in told) == (path.stem == "alpha")
    assert 0.02 < (maps["plain.png"] > 0).mean() < 0.98
    for name in ("plain.tif", "plain.bmp", "alpha.png", "deep.png", "deep.tif"):  # the same pixels, without loss
        assert (maps[name] == maps["plain.png"]).mean() > 0.999, name


def words_of(report: Path) -> str:
    """The report without styles, scripts and pictures."""
    return re.sub(r"<(style|script).*?</\1>|data:image[^\"]*", "", report.read_text(), flags=re.S)


def test_the_report_counts_no_millimetres_and_names_no_side_of_the_body(
    bundle: Path, colours: np.ndarray, tmp_path: Path
) -> None:
    picture = write(tmp_path / "plain.png", colours)
    infer(bundle, picture, tmp_path / "out", device="cpu", set={**SETTINGS, "threshold": 0.0})
    shown = words_of(tmp_path / "out" / "report.html")
    assert not re.search(r"\bm[ml]\b|>[RLAPSI]<|\baxial\b", shown)
    assert "exudate" in shown
    assert "axial" not in (tmp_path / "out" / "predictions.csv").read_text()


def test_a_large_picture_has_a_small_report(bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    large = np.kron(rng.integers(0, 255, (80, 120, 3)), np.ones((12, 12, 1))).astype(np.uint8)
    Image.fromarray(large).save(tmp_path / "large.png")
    infer(bundle, tmp_path / "large.png", tmp_path / "out", device="cpu", set=SETTINGS)
    assert (tmp_path / "out" / "report.html").stat().st_size < 4_000_000
    assert Image.open(tmp_path / "out" / "large_overlay.png").size == (1440, 960)


def _items(item: Dataset) -> Iterator[Dataset]:
    """All content items below one."""
    for child in item.get("ContentSequence", []):
        yield child
        yield from _items(child)


def test_a_film_has_no_millilitres(bundle: Path, colours: np.ndarray, tmp_path: Path) -> None:
    """A mammogram as DICOM: its pixels are measured, and nothing has a volume; a segmentation object is written too."""
    pixels = colours.mean(2).astype(np.uint16) * 16
    write_mammogram(tmp_path / "film.dcm", pixels, "P1", bits=12)
    summary = infer(
        bundle,
        tmp_path / "film.dcm",
        tmp_path / "out",
        device="cpu",
        format="dicomseg,dicomsr",
        set={**SETTINGS, "threshold": 0.0},
    )
    assert not summary.errors
    (line,) = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row["details"]["pixels"]["exudate"] > 0 and not row["volumes_ml"]
    (report,) = (tmp_path / "out").glob("*_sr.dcm")
    measured = {
        (str(item.ConceptNameCodeSequence[0].CodeMeaning), str(value.MeasurementUnitsCodeSequence[0].CodeValue)): float(
            value.NumericValue
        )
        for item in _items(dcmread(report))
        for value in item.get("MeasuredValueSequence", [])
    }
    assert measured["Area", "mm2"] == pytest.approx(row["details"]["pixels"]["exudate"] * 0.07**2, rel=1e-3)
    assert "Volume" not in {name for name, _ in measured} and (tmp_path / "out" / "film_seg.dcm").exists()
    assert not re.search(r"\bml\b", words_of(tmp_path / "out" / "report.html"))
