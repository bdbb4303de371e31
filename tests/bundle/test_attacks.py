"""No attack runs anything, and each ends with exit code 2 and the list of what was found."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medresnet3d.bundle.inspect import inspect_bundle
from medresnet3d.bundle.trust import require_trust
from medresnet3d.cli.main import app
from medresnet3d.errors import UntrustedBundleError
from tests.bundle.attacks import ATTACKS, Payload, touch
from tests.bundle.small_bundle import write_bundle


def _commands(folder: Path) -> dict[str, list[str]]:
    out, data = str(folder.parent / "out"), str(folder.parent / "manifest.json")
    return {
        "inspect": ["bundle", "inspect", str(folder)],
        "verify": ["bundle", "verify", str(folder)],
        "infer": ["infer", str(folder), str(folder.parent / "scan.nii.gz"), "-o", out],
        "train": ["train", str(folder), "--data", data, "-o", out],
        "evaluate": ["evaluate", str(folder), "--data", data, "-o", out],
    }


@pytest.fixture
def sentinel(tmp_path: Path) -> Path:
    return tmp_path / "sentinel"


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_found_and_runs_nothing(name: str, tmp_path: Path, sentinel: Path) -> None:
    folder = tmp_path / "bundle"
    ATTACKS[name](folder, sentinel)

    inspection = inspect_bundle(folder)
    with pytest.raises(UntrustedBundleError) as caught:
        require_trust(folder)

    assert caught.value.findings == [str(finding) for finding in inspection.findings]
    assert caught.value.exit_code == 2
    assert all(line and "\n" not in line for line in caught.value.findings)
    assert not sentinel.exists()


FAMILIES = [
    "target os.system",
    "target monai.bundle.scripts.os.system",
    "bare name run",
    "expression call",
    "macro_to_own_file",
    "requires",
    "reader",
    "scripts_folder",
    "logging args",
    "pickled_model",
    "overlay",
    "metadata",
    "yaml_config",
    "link_out_of_the_folder",
]


@pytest.mark.parametrize("verb", ["inspect", "verify", "infer", "train", "evaluate"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_verb_stops_with_exit_code_2_and_the_findings(
    name: str, verb: str, tmp_path: Path, sentinel: Path
) -> None:
    folder = tmp_path / "bundle"
    ATTACKS[name](folder, sentinel)

    result = CliRunner().invoke(app, _commands(folder)[verb])

    findings = inspect_bundle(folder).findings
    assert result.exit_code == 2
    assert findings and all(str(finding) in result.output for finding in findings)
    assert not sentinel.exists()
    assert not (tmp_path / "out").exists()


def _run(folder: Path) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(folder / "configs/inference.json"))
    parser.get_parsed_content("attack")


@pytest.mark.parametrize(
    "name",
    [
        "target os.system",
        "target torch.os.system",
        "target monai.bundle.scripts.os.system",
        "expression call",
        "expression getattr",
        "expression f-string",
        "expression reader",
        "reader",
        "requires",
        "macro_to_same_file",
        "nested lists",
        "key injection",
    ],
)
def test_the_attacks_are_real(name: str, tmp_path: Path, sentinel: Path) -> None:
    """Plain MONAI runs them: otherwise it would prove nothing that they are stopped."""
    folder = tmp_path / "bundle"
    ATTACKS[name](folder, sentinel)
    try:
        _run(folder)
    except Exception as error:
        assert sentinel.exists(), error
    assert sentinel.exists()


def test_pickled_payload_is_real(sentinel: Path) -> None:
    pickle.loads(pickle.dumps(Payload(touch(sentinel))))
    assert sentinel.exists()


def test_clean_bundle_of_a_stranger_passes(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    assert inspect_bundle(folder).findings == ()
    require_trust(folder)


def test_trust_is_remembered_until_the_bundle_changes(tmp_path: Path, sentinel: Path) -> None:
    folder = tmp_path / "bundle"
    ATTACKS["scripts_folder"](folder, sentinel)
    require_trust(folder, trust=True)
    require_trust(folder)

    (folder / "docs/README.md").write_text("changed\n")
    with pytest.raises(UntrustedBundleError):
        require_trust(folder)


def test_same_content_elsewhere_is_trusted_too(tmp_path: Path, sentinel: Path) -> None:
    for name in ("one", "two"):
        ATTACKS["scripts_folder"](tmp_path / name, sentinel)
    require_trust(tmp_path / "one", trust=True)
    require_trust(tmp_path / "two")


def test_trust_option_lets_the_bundle_run(tmp_path: Path, sentinel: Path) -> None:
    folder = tmp_path / "bundle"
    ATTACKS["scripts_folder"](folder, sentinel)
    first = CliRunner().invoke(app, ["bundle", "verify", str(folder)])
    trusted = CliRunner().invoke(app, ["bundle", "verify", str(folder), "--trust"])
    again = CliRunner().invoke(app, ["bundle", "verify", str(folder)])
    assert (first.exit_code, trusted.exit_code, again.exit_code) == (2, 0, 0)
    assert not sentinel.exists()


def test_environment_cannot_be_used_to_import_from_the_bundle(tmp_path: Path, sentinel: Path) -> None:
    """Inspection does not depend on the current folder, which Python would import from."""
    folder = tmp_path / "bundle"
    ATTACKS["module_that_hides_torch"](folder, sentinel)
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert not inspect_bundle(folder).ok
    finally:
        os.chdir(before)
    assert not sentinel.exists()
