from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from medresnet3d.data.collections import luna16
from medresnet3d.data.manifest import load_manifest
from medresnet3d.data.phantoms.luna16 import write_mhd
from medresnet3d.data.preparation import prepare as preparation
from medresnet3d.errors import ConfigError, DataError
from medresnet3d.io import load, require_same_grid
from tests.data.collections.trap import Result


@pytest.fixture(scope="module")
def root(mimic_of: Callable[[str], Path]) -> Path:
    return mimic_of("luna16")


def prepare(root: Path, output: Path, task: str | None = None, **options: object) -> Path:
    texts = {name: str(value) for name, value in options.items()}
    return preparation.prepare("luna16", root, output, task=task, options=texts).path


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root, tmp_path / "LUNA16"))


def _entries(manifest: Path) -> list[dict]:
    raw = json.loads(manifest.read_text())
    return [entry for section in ("training", "validation", "test") for entry in raw.get(section, [])]


def test_every_candidate_is_listed_or_dropped_for_a_reason(root: Path, tmp_path: Path) -> None:
    raw = json.loads(prepare(root, tmp_path / "all.json", negatives_per_positive="inf").read_text())
    table = pd.read_csv(root / "candidates.csv")
    assert len(raw["training"]) + sum(raw["dropped"].values()) == len(table)
    assert raw["dropped"][luna16.DUPLICATE] == raw["dropped"][luna16.NO_SCAN] == raw["dropped"][luna16.OUTSIDE] == 1
    assert raw["dropped"][luna16.EXCLUDED] >= 1
    assert raw["counts"]["training"]["classes"]["nodule"] == len(pd.read_csv(root / "annotations.csv"))


def test_manifest_is_valid_and_the_subset_is_the_fold(root: Path, tmp_path: Path) -> None:
    manifest = load_manifest(prepare(root, tmp_path / "m.json", validation_folds="4", test_folds="5"))
    assert manifest.labels == ("non-nodule", "nodule")
    folds = {name: {entry["fold"] for entry in entries} for name, entries in manifest.sections.items()}
    assert folds == {"training": {0, 1, 2, 3}, "validation": {4}, "test": {5}}
    for entries in manifest.sections.values():
        for entry in entries:
            assert Path(entry["image"]).parent.name == f"subset{entry['fold']}"
            assert Path(entry["image"]).stem == entry["patient"]
            assert (entry["label"] == 1) == ("diameter_mm" in entry)


def test_positions_point_at_nodules_when_monai_reads_the_scan(root: Path, tmp_path: Path) -> None:
    from monai.transforms import LoadImage

    annotated = pd.read_csv(root / "annotations.csv").groupby("seriesuid").size()
    load = LoadImage(reader="ITKReader", image_only=True, ensure_channel_first=False)
    values: dict[str, list[float]] = {"nodule": [], "flipped nodule": []}
    for entry in _entries(prepare(root, tmp_path / "p.json")):
        if entry["label"] != "nodule":
            continue
        assert entry["patient"] in annotated
        image = load(root / entry["image"])
        affine = np.asarray(image.affine)
        i, j, k = np.rint(nibabel.affines.apply_affine(np.linalg.inv(affine), entry["position"])).astype(int)
        around = np.asarray(image)[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2]
        values["flipped nodule" if affine[0, 0] > 0 else "nodule"].append(float(around.max()))
    assert len(values["flipped nodule"]) >= 2
    assert np.min(values["nodule"] + values["flipped nodule"]) > -720, "denser than lung"


def test_lps_coordinates_are_turned_to_ras(root: Path, tmp_path: Path) -> None:
    table = pd.read_csv(root / "candidates.csv").set_index("seriesuid")
    for entry in _entries(prepare(root, tmp_path / "r.json", negatives_per_positive="inf")):
        rows = table.loc[[entry["patient"]], ["coordX", "coordY", "coordZ"]].to_numpy()
        assert (rows == np.array(entry["position"]) * (-1, -1, 1)).all(axis=1).any()


def test_flipped_scans_keep_their_candidates_inside(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(name: str) -> Counter:
        manifest = prepare(root, tmp_path / name, negatives_per_positive="inf")
        return Counter(entry["fold"] for entry in _entries(manifest))

    heeded = count("heeded.json")
    assert heeded[3] > 2, "subset 3 holds the flipped scan"
    monkeypatch.setattr("SimpleITK.ImageFileReader.GetDirection", lambda _: (1, 0, 0, 0, 1, 0, 0, 0, 1))
    ignored = count("ignored.json")
    assert ignored[3] < heeded[3]
    assert ignored[0] == heeded[0]


def test_sampling_is_seeded_by_subset_and_keeps_all_nodules(root: Path, tmp_path: Path) -> None:
    def rows(seed: int, ratio: float) -> list[tuple]:
        options = {"negatives_per_positive": str(ratio)}
        manifest = preparation.prepare("luna16", root, tmp_path / "s.json", seed=seed, options=options).path
        return [(entry["label"], tuple(entry["position"])) for entry in _entries(manifest)]

    assert rows(1, 0.5) == rows(1, 0.5)
    assert any(rows(1, 0.5) != rows(seed, 0.5) for seed in range(2, 6))
    few, many = Counter(label for label, _ in rows(1, 0.5)), Counter(label for label, _ in rows(1, 3.0))
    assert few["nodule"] == many["nodule"]
    assert few["non-nodule"] < many["non-nodule"]


def test_a_patient_is_in_one_section_only(root: Path, tmp_path: Path) -> None:
    raw = json.loads(prepare(root, tmp_path / "g.json", test_folds="1, 3").read_text())
    sections = [{entry["patient"] for entry in raw[name]} for name in ("training", "test")]
    assert not sections[0] & sections[1]


def test_a_few_subsets_are_enough(copy: Path) -> None:
    for subset in range(2, 10):
        shutil.rmtree(copy / f"subset{subset}")
    raw = json.loads(prepare(copy, copy, subsets="0").read_text())
    assert {entry["fold"] for entry in raw["training"]} == {0}
    assert raw["dropped"][luna16.NO_SCAN] > 5
    assert raw["dropped"][luna16.NOT_ASKED] > 0


def test_excluded_findings_count_as_wide_as_the_official_evaluation_says(copy: Path) -> None:
    path = copy / "annotations_excluded.csv"
    table = pd.read_csv(path)
    before = json.loads(prepare(copy, copy, negatives_per_positive="inf").read_text())["dropped"][luna16.EXCLUDED]
    table.assign(coordX=table.coordX + 4.5, diameter_mm=-1.0).to_csv(path, index=False)
    unknown = json.loads(prepare(copy, copy, negatives_per_positive="inf").read_text())["dropped"][luna16.EXCLUDED]
    assert unknown == before
    path.unlink()
    assert luna16.EXCLUDED not in json.loads(prepare(copy, copy).read_text())["dropped"]


def test_a_non_nodule_inside_a_nodule_is_dropped(copy: Path) -> None:
    path = copy / "candidates.csv"
    table = pd.read_csv(path)
    nodule = table[table["class"] == 1].iloc[[0]].assign(coordZ=lambda row: row.coordZ + 0.01)
    pd.concat([table, nodule.assign(**{"class": 0})]).to_csv(path, index=False)
    raw = json.loads(prepare(copy, copy, negatives_per_positive="inf").read_text())
    assert raw["dropped"][luna16.CONTRADICTION] == 1


def test_version_two_of_the_candidates_is_read_too(copy: Path) -> None:
    chosen = json.loads(prepare(copy, copy, candidates="candidates_V2.csv").read_text())
    (copy / "candidates.csv").unlink()
    fallen_back = json.loads(prepare(copy, copy).read_text())
    assert chosen["training"] == fallen_back["training"]


def test_boxes_are_cubes_around_nodules_in_mm_to_the_left_of_lps(copy: Path) -> None:
    result = Result("luna16", copy, task="nodules")
    table = pd.read_csv(copy / "annotations.csv")
    found = [(entry["patient"], box) for entry in result.entries() for box in entry["boxes"]]
    assert len(found) == len(table) and len(result.entries()) == 6
    for uid, box in found:
        low, high = np.array(box).reshape(2, 3)
        centre = (low + high) / 2 * (-1, -1, 1)
        rows = table[table.seriesuid == uid]
        near = np.abs(rows[["coordX", "coordY", "coordZ"]].to_numpy() - centre).max(axis=1) < 1e-3
        assert near.sum() == 1
        np.testing.assert_allclose(high - low, rows.diameter_mm.to_numpy()[near][0], atol=1e-3)


def test_findings_that_the_official_evaluation_ignores_are_excluded_boxes(copy: Path) -> None:
    table = pd.read_csv(copy / "annotations_excluded.csv")
    table.loc[0, "diameter_mm"] = -1.0  # of unknown size, as most of the official ones
    table.to_csv(copy / "annotations_excluded.csv", index=False)
    entries = Result("luna16", copy, task="nodules").entries()
    found = {entry["patient"]: entry["excluded_boxes"] for entry in entries if "excluded_boxes" in entry}
    assert sum(map(len, found.values())) == len(table) and len(found) == table.seriesuid.nunique()
    low, high = np.array(found[table.seriesuid[0]][0]).reshape(2, 3)
    np.testing.assert_allclose(high - low, 10.0)
    np.testing.assert_allclose(
        (low + high) / 2 * (-1, -1, 1), table.loc[0, ["coordX", "coordY", "coordZ"]].astype(float), atol=1e-3
    )
    (copy / "annotations_excluded.csv").unlink()
    assert not any("excluded_boxes" in entry for entry in Result("luna16", copy, task="nodules").entries())


def test_lung_masks_are_numbered_anew_on_the_grid_of_their_scan(copy: Path) -> None:
    result = Result("luna16", copy, task="lungs")
    for entry in result.entries():
        mask = load(result.file(entry["mask"]))
        official = load(copy / "seg-lungs-LUNA16" / Path(entry["image"]).name)
        require_same_grid(load(result.file(entry["image"])), mask)
        assert np.array_equal(mask.array, np.array([0, -1, -1, 1, 1, 2])[official.array.astype(int)])


def test_a_lung_mask_of_unknown_values_is_refused(copy: Path) -> None:
    path = next((copy / "seg-lungs-LUNA16").glob("*.mhd"))
    official = load(path)
    write_mhd(path, official.array + 6, official.affine, compress=True)
    with pytest.raises(DataError, match="the label map has the values 6, 9, 10"):
        Result("luna16", copy, task="lungs")


def _remove_column(root: Path) -> None:
    pd.read_csv(root / "annotations.csv").drop(columns="coordZ").to_csv(root / "annotations.csv", index=False)


def _spoil_number(root: Path) -> None:
    text = (root / "candidates.csv").read_text().splitlines()
    (root / "candidates.csv").write_text("\n".join([text[0], "1.2.3,a,0,0,1", *text[1:]]))


def _empty_table(root: Path) -> None:
    (root / "candidates.csv").write_text("")


def _no_voxels(root: Path) -> None:
    for path in root.glob("subset*/*.raw"):
        path.unlink()


def _spoil_header(root: Path) -> None:
    next(root.glob("subset0/*.mhd")).write_text("NDims = 3\n")


def _strange_uids(root: Path) -> None:
    table = pd.read_csv(root / "candidates.csv")
    table.assign(seriesuid="1.2.3").to_csv(root / "candidates.csv", index=False)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove_column, r"annotations\.csv: the column coordZ is missing"),
        (_spoil_number, r"candidates\.csv: line 2 holds something that is not a number"),
        (_empty_table, r"candidates\.csv: is not a readable CSV"),
        (_no_voxels, "no scan has its voxels"),
        (_spoil_header, "not a readable MetaImage header"),
        (_strange_uids, "no entry is left for candidates .*scan file missing"),
        (lambda root: (root / "annotations.csv").unlink(), r"the table annotations\.csv is missing"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_damaged_folders_are_refused(copy: Path, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy)
    with pytest.raises(DataError, match=message):
        prepare(copy, tmp_path / "manifest.json")
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize("text", ["ten", "10", "1;2"])
def test_subsets_are_numbers(root: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="numbers from 0 to 9"):
        prepare(root, tmp_path / "m.json", test_folds=text)
