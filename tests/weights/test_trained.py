from __future__ import annotations

import json
from pathlib import Path

import pytest

from medresnet3d.errors import WeightsError
from medresnet3d.weights.trained import find_trained


def a_bundle(folder: Path, labels: object) -> Path:
    (folder / "models").mkdir(parents=True)
    (folder / "configs").mkdir()
    (folder / "models" / "model.pt").write_bytes(b"weights")
    (folder / "configs" / "metadata.json").write_text(json.dumps({"labels": labels}))
    return folder


def test_a_run_a_bundle_and_a_file_know_their_classes(tmp_path: Path) -> None:
    bundle = a_bundle(tmp_path / "run" / "bundle", {"1": "b", "0": "a", "10": "d", "2": "c"})
    for path in (tmp_path / "run", bundle, str(bundle / "models" / "model.pt")):
        found = find_trained(path)
        assert found.file == bundle / "models" / "model.pt"
        assert found.classes == ("a", "b", "c", "d")


@pytest.mark.parametrize("labels", [["a", "b"], {"a": "b"}, None])
def test_without_readable_labels_there_are_no_classes(labels: object, tmp_path: Path) -> None:
    assert find_trained(a_bundle(tmp_path / "bundle", labels)).classes is None


def test_other_files_and_empty_folders(tmp_path: Path) -> None:
    assert find_trained(tmp_path / "resnet.pth").classes is None
    with pytest.raises(WeightsError, match="holds no models"):
        find_trained(tmp_path)
