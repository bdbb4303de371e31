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
from medresnet3d.data.collections.luna16 import make_mimic, prepare
from medresnet3d.data.manifest import load_manifest
from medresnet3d.errors import ConfigError, DataError

SCANS = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mimic(tmp_path_factory.mktemp("data") / "LUNA16", SCANS)


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root, tmp_path / "LUNA16"))


def _entries(manifest: Path) -> list[dict]:
    raw = json.loads(manifest.read_text())
    return [entry for section in ("training", "validation", "test") for entry in raw.get(section, [])]


def test_mimic_is_small(root: Path) -> None:
    assert sum(path.stat().st_size for path in root.rglob("*")) < 1_100_000


def test_every_candidate_is_listed_or_dropped_for_a_reason(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = prepare(root, root.parent / "all.json", negatives_per_positive=None)
    raw = json.loads(manifest.read_text())
    table = pd.read_csv(root / "candidates.csv")
    assert len(raw["training"]) + sum(raw["dropped"].values()) == len(table)
    assert raw["dropped"][luna16.DUPLICATE] == raw["dropped"][luna16.NO_SCAN] == raw["dropped"][luna16.OUTSIDE] == 1
    assert raw["dropped"][luna16.EXCLUDED] >= 1
    assert raw["counts"]["nodule"] == len(pd.read_csv(root / "annotations.csv"))
    assert "dropped: 1 duplicate row, 1 scan file missing" in capsys.readouterr().out


def test_manifest_is_valid_and_the_subset_is_the_fold(root: Path) -> None:
    manifest = load_manifest(prepare(root, root.parent / "m.json", validation_folds=[4], test_folds=[5]))
    assert manifest.labels == ("non-nodule", "nodule")
    folds = {name: {entry["fold"] for entry in entries} for name, entries in manifest.sections.items()}
    assert folds == {"training": {0, 1, 2, 3}, "validation": {4}, "test": {5}}
    for entries in manifest.sections.values():
        for entry in entries:
            assert Path(entry["image"]).parent.name == f"subset{entry['fold']}"
            assert Path(entry["image"]).stem == entry["patient"]
            assert (entry["label"] == 1) == ("diameter_mm" in entry)


def test_positions_point_at_nodules_when_monai_reads_the_scan(root: Path) -> None:
    from monai.transforms import LoadImage

    annotated = pd.read_csv(root / "annotations.csv").groupby("seriesuid").size()
    load = LoadImage(reader="ITKReader", image_only=True, ensure_channel_first=False)
    values: dict[str, list[float]] = {"nodule": [], "flipped nodule": []}
    for entry in _entries(prepare(root, root.parent / "p.json")):
        if entry["label"] != "nodule":
            continue
        assert entry["patient"] in annotated
        image = load(root.parent / entry["image"])
        affine = np.asarray(image.affine)
        i, j, k = np.rint(nibabel.affines.apply_affine(np.linalg.inv(affine), entry["position"])).astype(int)
        around = np.asarray(image)[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2]
        values["flipped nodule" if affine[0, 0] > 0 else "nodule"].append(float(around.max()))
    assert len(values["flipped nodule"]) >= 2
    assert np.min(values["nodule"] + values["flipped nodule"]) > -720, "denser than lung"


def test_lps_coordinates_are_turned_to_ras(root: Path) -> None:
    table = pd.read_csv(root / "candidates.csv").set_index("seriesuid")
    for entry in _entries(prepare(root, root.parent / "r.json", negatives_per_positive=None)):
        rows = table.loc[[entry["patient"]], ["coordX", "coordY", "coordZ"]].to_numpy()
        assert (rows == np.array(entry["position"]) * (-1, -1, 1)).all(axis=1).any()


def test_flipped_scans_keep_their_candidates_inside(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(name: str) -> Counter:
        manifest = prepare(root, root.parent / name, negatives_per_positive=None)
        return Counter(entry["fold"] for entry in _entries(manifest))

    heeded = count("heeded.json")
    assert heeded[3] > 2, "subset 3 holds the flipped scan"
    monkeypatch.setattr("SimpleITK.ImageFileReader.GetDirection", lambda _: (1, 0, 0, 0, 1, 0, 0, 0, 1))
    ignored = count("ignored.json")
    assert ignored[3] < heeded[3]
    assert ignored[0] == heeded[0]


def test_sampling_is_seeded_by_subset_and_keeps_all_nodules(root: Path) -> None:
    def rows(seed: int, ratio: float) -> list[tuple]:
        manifest = prepare(root, root.parent / "s.json", negatives_per_positive=ratio, seed=seed)
        return [(entry["label"], tuple(entry["position"])) for entry in _entries(manifest)]

    assert rows(1, 0.5) == rows(1, 0.5)
    assert any(rows(1, 0.5) != rows(seed, 0.5) for seed in range(2, 6))
    few, many = Counter(label for label, _ in rows(1, 0.5)), Counter(label for label, _ in rows(1, 3.0))
    assert few["nodule"] == many["nodule"]
    assert few["non-nodule"] < many["non-nodule"]


def test_a_patient_is_in_one_section_only(root: Path) -> None:
    raw = json.loads(prepare(root, root.parent / "g.json", test_folds=[1, 3]).read_text())
    sections = [{entry["patient"] for entry in raw[name]} for name in ("training", "test")]
    assert not sections[0] & sections[1]


def test_a_few_subsets_are_enough(copy: Path) -> None:
    for subset in range(2, 10):
        shutil.rmtree(copy / f"subset{subset}")
    raw = json.loads(prepare(copy, copy, folds=[0]).read_text())
    assert {entry["fold"] for entry in raw["training"]} == {0}
    assert raw["dropped"][luna16.NO_SCAN] > 5
    assert raw["dropped"][luna16.NOT_ASKED] > 0


def test_excluded_findings_count_as_wide_as_the_official_evaluation_says(copy: Path) -> None:
    path = copy / "annotations_excluded.csv"
    table = pd.read_csv(path)
    before = json.loads(prepare(copy, copy, negatives_per_positive=None).read_text())["dropped"][luna16.EXCLUDED]
    table.assign(coordX=table.coordX + 4.5, diameter_mm=-1.0).to_csv(path, index=False)
    unknown = json.loads(prepare(copy, copy, negatives_per_positive=None).read_text())["dropped"][luna16.EXCLUDED]
    assert unknown == before
    path.unlink()
    assert luna16.EXCLUDED not in json.loads(prepare(copy, copy).read_text())["dropped"]


def test_a_non_nodule_inside_a_nodule_is_dropped(copy: Path) -> None:
    path = copy / "candidates.csv"
    table = pd.read_csv(path)
    nodule = table[table["class"] == 1].iloc[[0]].assign(coordZ=lambda row: row.coordZ + 0.01)
    pd.concat([table, nodule.assign(**{"class": 0})]).to_csv(path, index=False)
    raw = json.loads(prepare(copy, copy, negatives_per_positive=None).read_text())
    assert raw["dropped"][luna16.CONTRADICTION] == 1


def test_version_two_of_the_candidates_is_read_too(copy: Path) -> None:
    chosen = json.loads(prepare(copy, copy, candidates="candidates_V2.csv").read_text())
    (copy / "candidates.csv").unlink()
    fallen_back = json.loads(prepare(copy, copy).read_text())
    assert chosen["training"] == fallen_back["training"]


def test_paths_are_relative_beside_the_scans_and_rooted_elsewhere(root: Path, tmp_path: Path) -> None:
    beside = json.loads(prepare(root, root / "manifest.json").read_text())
    assert "root" not in beside and beside["training"][0]["image"].startswith("subset")
    elsewhere = prepare(root, tmp_path / "deep" / "manifest.json")
    assert json.loads(elsewhere.read_text())["root"] == str(root.resolve())
    assert Path(load_manifest(elsewhere).sections["training"][0]["image"]).is_file()


def _remove_column(root: Path) -> None:
    pd.read_csv(root / "annotations.csv").drop(columns="coordZ").to_csv(root / "annotations.csv", index=False)


def _spoil_number(root: Path) -> None:
    text = (root / "candidates.csv").read_text().splitlines()
    (root / "candidates.csv").write_text("\n".join([text[0], "1.2.3,a,0,0,1", *text[1:]]))


def _empty_table(root: Path) -> None:
    (root / "candidates.csv").write_text("")


def _no_scans(root: Path) -> None:
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
        (_no_scans, "holds no scans"),
        (_spoil_header, "not a readable MetaImage header"),
        (_strange_uids, "no candidate is left .*scan file missing"),
        (lambda root: (root / "annotations.csv").unlink(), r"annotations\.csv: no such table"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_damaged_folders_are_refused(copy: Path, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy)
    with pytest.raises(DataError, match=message):
        prepare(copy, tmp_path / "manifest.json")
    assert not (tmp_path / "manifest.json").exists()


def test_an_unknown_task_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose classification"):
        prepare(root, tmp_path / "m.json", task="segmentation")
