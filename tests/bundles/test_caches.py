"""Every bundle lets prepared scans be kept wherever the user wants, by one id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from medresnet3d.data.prefix_caches import CACHES
from tests.bundles.conftest import BundleUnderTest, some

pytestmark = pytest.mark.parametrize(
    "bundle", some("brain_tissue_voxresnet", "lung_nodule_cnn3d", "macular_edema_cascade"), indirect=True
)


def data_set(bundle: BundleUnderTest, part: str, cache: Any, folder: Path) -> Any:
    parser = ConfigParser()
    parser.read_config(bundle.config("train"))
    parser.update({"data": str(bundle.manifest), "cache": cache, "cache_dir": str(folder), "validation_fraction": 0.5})
    return parser.get_parsed_content(f"{part}#dataset")


@pytest.mark.parametrize("cache", [*CACHES, {"name": "disk", "storage": "compressed", "identity": "content"}], ids=str)
def test_the_samples_are_the_same_wherever_they_are_kept(bundle: BundleUnderTest, cache: Any, tmp_path: Path) -> None:
    expected = data_set(bundle, "train", "none", tmp_path)
    found = data_set(bundle, "train", cache, tmp_path)
    assert len(found) == len(expected.data) // (2 if cache == "smart" else 1) * expected.repeats
    one, other = found[0], expected[0]
    assert one.keys() == other.keys()
    assert torch.equal(one["image"].as_subclass(torch.Tensor), other["image"].as_subclass(torch.Tensor))
    assert len(data_set(bundle, "validate", cache, tmp_path)) == len(data_set(bundle, "validate", "none", tmp_path))


def test_what_is_on_disk_is_used_by_the_next_training(bundle: BundleUnderTest, tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        data_set(bundle, "train", "disk", tmp_path).fill_cache()
        found.append(sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.entry")))
    assert found[0] == found[1] != []
