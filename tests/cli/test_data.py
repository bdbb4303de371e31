from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from medresnet3d.cli.main import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def save(path: Path, array: Any) -> None:
    nib.loadsave.save(nib.nifti1.Nifti1Image(np.asarray(array), np.eye(4)), path)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # --deep writes into the current folder
    entries = []
    for index in range(4):
        save(tmp_path / f"i{index}.nii", np.random.default_rng(index).integers(0, 99, (4, 4, 4)).astype(np.int16))
        save(tmp_path / f"m{index}.nii", np.eye(4, dtype=np.uint8)[:, :, None].repeat(4, 2))
        entries.append({"image": f"i{index}.nii", "mask": f"m{index}.nii", "patient": f"p{index}"})
    raw = {"name": "toy", "task": "segmentation", "labels": ["back", "organ"], "training": entries}
    (tmp_path / "manifest.json").write_text(json.dumps(raw))
    return tmp_path / "manifest.json"


def change(manifest: Path, **changes: Any) -> None:
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def test_a_sound_data_set(manifest: Path) -> None:
    for arguments in ([manifest], [manifest.parent], [manifest, "--deep"]):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        assert "0 errors, 0 warnings" in result.stdout
    assert [path.name for path in Path.cwd().iterdir()] == [f"{manifest.parent.name}_check"]
    result = run(manifest, "--json")
    assert json.loads(result.stdout)["sections"] == {"training": {"entries": 4, "patients": 4}}


def test_a_label_outside_the_class_list(manifest: Path) -> None:
    save(manifest.parent / "m1.nii", np.full((4, 4, 4), 9, np.uint8))
    assert run(manifest).exit_code == 0
    result = run(manifest, "--deep")
    assert result.exit_code == 1
    assert "error entry 2 of `training` (i1.nii): the mask" in result.stdout
    assert "has the values 9, but the labels go from 0 to 1" in result.stdout


def test_a_patient_in_training_and_validation(manifest: Path) -> None:
    first, *rest = json.loads(manifest.read_text())["training"]
    change(manifest, training=rest, validation=[{**first, "patient": "p2"}])
    result = run(manifest)
    assert result.exit_code == 1
    assert "entry 1 of `validation` (i0.nii): patient 'p2' is already in `training` (entry 2)" in result.stdout


def test_a_manifest_that_breaks_the_schema(manifest: Path) -> None:
    change(manifest, training=[{"image": "i0.nii", "mask": "m0.nii", "position": [1, 2]}])
    result = run(manifest)
    assert result.exit_code == 1
    assert "error entry 1 of `training`: `position` is [1, 2], which cannot be used" in result.stdout


def test_a_missing_file(manifest: Path) -> None:
    (manifest.parent / "m3.nii").unlink()
    result = run(manifest)
    assert result.exit_code == 1 and "m3.nii does not exist; correct the path." in result.stdout


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no such manifest; check the path"), ("{", "is not valid JSON at line 1, column 2")]
)
def test_what_is_no_manifest(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "m.json").write_text(content)
    result = run(tmp_path / "m.json")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("Error: ") and words in result.stderr and "Traceback" not in result.stderr


def test_where_things_are_written(manifest: Path) -> None:
    assert run(manifest, "-o", "out", "--phi", "keep", "--workers", "1").exit_code == 0
    files = {"fingerprint.json", "report.html", "findings.csv"}
    assert {path.name for path in Path("out").iterdir()} == files
    other = manifest.with_name("other.json")
    other.write_text(manifest.read_text())
    assert run(manifest, other, "-o", "both").exit_code == 0
    assert {path.name for path in Path("both").iterdir()} == {f"{manifest.parent.name}_check", "other_check"}
    assert run(manifest, "--phi", "al").exit_code == 2


def test_the_worst_of_several_manifests_decides(manifest: Path) -> None:
    broken = manifest.with_name("broken.json")
    broken.write_text(manifest.read_text().replace("m3.nii", "lost.nii"))
    result = run(broken, manifest, "--json")
    assert result.exit_code == 1
    assert [one["errors"] for one in json.loads(result.stdout)] == [1, 0]


def test_a_data_set_is_prepared_as_a_table_and_checked(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["data", "mimic", "ham10000", str(tmp_path / "ham")])
    prepare = ["data", "prepare", "ham10000", str(tmp_path / "ham"), "-o", str(tmp_path / "m.json")]
    assert CliRunner().invoke(app, [*prepare, "--format", "csv"]).exit_code == 0
    assert run(tmp_path / "m.csv").exit_code == 0
    assert CliRunner().invoke(app, [*prepare, "--format", "xls"]).exit_code == 2
    assert CliRunner().invoke(app, [*prepare[:-1], str(tmp_path / "m.csv"), "--format", "json"]).exit_code == 2


def test_list_and_show_tell_what_is_on_the_cards() -> None:
    listed = CliRunner().invoke(app, ["data", "list"])
    assert listed.exit_code == 0
    assert "ham10000" in listed.stdout and "CC BY-NC 4.0" in listed.stdout
    cards = json.loads(CliRunner().invoke(app, ["data", "list", "--json"]).stdout)
    assert [card["name"] for card in cards if card["area"] == "skin" and card["split_unit"] == "lesion"] >= ["ham10000"]
    shown = CliRunner().invoke(app, ["data", "show", "HAM-10000"])
    assert "task melanoma (classification)" in shown.stdout and "HAM10000_metadata" in shown.stdout
    assert json.loads(CliRunner().invoke(app, ["data", "show", "csv", "--json"]).stdout)["options"]["table"]


def test_mimic_prepare_and_check_follow_each_other(tmp_path: Path) -> None:
    folder, manifest = tmp_path / "ham", tmp_path / "m.json"
    assert CliRunner().invoke(app, ["data", "mimic", "ham10000", str(folder)]).exit_code == 0
    (folder / "HAM10000_images_part_1" / "ISIC_0024306.jpg").unlink()
    done = CliRunner().invoke(
        app, ["data", "prepare", "ham10000", str(folder), "-o", str(manifest), "--task", "melanoma", "--folds", "3"]
    )
    assert done.exit_code == 0, done.output
    assert "dropped: 1 image file missing (ISIC_0024306)" in done.stdout
    assert "melanoma" in done.stdout and "1 to 2, median 1" in done.stdout
    assert run(manifest).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ham1000", "."], "No data set is called 'ham1000'; did you mean 'ham10000'?"),
        (["ham10000", ".", "--task", "melanom"], "did you mean 'melanoma'?"),
        (["csv", ".", "--set", "labell=dx"], "there is no option 'labell'; did you mean 'label'?"),
        (["csv", ".", "--set", "label"], "The option 'label' has no value; write --set label=VALUE."),
        (["ham10000", "nowhere"], "nowhere: no such folder; check the path that HAM10000 was unpacked to."),
    ],
)
def test_slips_are_told_with_the_nearest(arguments: list[str], words: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "prepare", *arguments, "-o", str(tmp_path / "m.json")])
    assert result.exit_code == 2 and words in result.stderr
    assert not (tmp_path / "m.json").exists()
