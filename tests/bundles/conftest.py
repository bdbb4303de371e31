"""One copy of every shipped bundle, with weights (random where none ship), and phantoms that fit it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medresnet3d.bundle.registry import list_bundles

NAMES = [bundle.name for bundle in list_bundles()]


def some(*quick: str) -> list[Any]:
    """Values of the parameter ``bundle``: the named ones in the default run, all others under ``slow``."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in NAMES]


@dataclass(frozen=True)
class BundleUnderTest:
    """A copy of a shipped bundle outside the package, and a small phantom cohort for it."""

    name: str
    root: Path
    manifest: Path
    metadata: dict[str, Any]

    def config(self, name: str) -> str:
        return str(self.root / "configs" / f"{name}.json")

    @property
    def weights(self) -> Path:
        return self.root / "models" / "model.pt"

    @property
    def metadata_file(self) -> str:
        return self.config("metadata")


def _write_random_weights(root: Path) -> None:
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    (root / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), root / "models" / "model.pt")


def _write_phantoms(metadata: dict[str, Any], folder: Path) -> Path:
    from monai.bundle import ConfigParser

    return Path(ConfigParser({"phantom": {**metadata["phantom"], "folder": str(folder)}}).get_parsed_content("phantom"))


@pytest.fixture(scope="module", params=NAMES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BundleUnderTest:
    source = next(b for b in list_bundles() if b.name == request.param)
    root = tmp_path_factory.mktemp("elsewhere") / source.name
    shutil.copytree(source.path, root)
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    if not (root / "models" / "model.pt").exists():
        _write_random_weights(root)
    manifest = _write_phantoms(metadata, tmp_path_factory.mktemp(f"phantoms_{source.name}"))
    return BundleUnderTest(source.name, root, manifest, metadata)
