"""The shipped tables are what the generator writes, and everything on them is there and is what it claims."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import medresnet3d.bundle
from medresnet3d.bundle import allow_list
from medresnet3d.bundle.names import is_allowed

FOLDER = Path(medresnet3d.bundle.__file__).parent


def test_own_names_on_the_list_are_those_of_the_package() -> None:
    table = json.loads((FOLDER / "allowed_targets.json").read_text())
    listed = {f"{m}.{n}" for kind in table.values() for m, names in kind.items() for n in names}
    own = {f"{module}.{name}" for module, name in allow_list.own_names()}
    hint = "run `python -m medresnet3d.bundle.allow_list`"
    assert {name for name in listed if name.startswith("medresnet3d.")} == own, hint


def test_tables_are_up_to_date_with_monai() -> None:
    import monai

    if not monai.__version__.startswith("1.6.1"):
        pytest.skip("the tables were written for MONAI 1.6.1")
    for file, text in allow_list.render().items():
        ours, now = json.loads((FOLDER / file).read_text()), json.loads(text)
        assert ours == now, f"{file}: run `python -m medresnet3d.bundle.allow_list`"


def test_what_can_do_harm_is_not_on_the_list() -> None:
    for dotted in allow_list.EXCLUDED:
        value = allow_list.locate(dotted)
        assert not is_allowed(dotted)
        if value is not None:
            assert not is_allowed(f"{value.__module__}.{value.__name__}")


def test_whole_modules_that_can_do_harm_are_not_on_the_list() -> None:
    table = json.loads((FOLDER / "allowed_targets.json").read_text())
    modules = [module for kind in table.values() for module in kind]
    excluded = (*allow_list.EXCLUDED_MODULES, *allow_list.OWN_EXCLUDED)
    assert not [module for module in modules if module.startswith(excluded)]
    for room in ("cli", "workflows", "bundle"):
        assert not [module for module in modules if module.startswith(f"medresnet3d.{room}")]


@pytest.mark.parametrize(
    "dotted",
    [
        "medresnet3d.engines.Trainer",
        "medresnet3d.engines.train_handlers",
        "medresnet3d.engines.select_device",
        "medresnet3d.data.items",
        "medresnet3d.data.inputs",
        "medresnet3d.data.SeededDataset",
        "medresnet3d.networks.voxresnet.VoxResNet",
        "medresnet3d.transforms.load.LoadVolumed",
    ],
)
def test_what_bundles_are_made_of_is_on_the_list(dotted: str) -> None:
    assert is_allowed(dotted)


def test_an_excluded_network_is_not_allowed_under_its_alias() -> None:
    assert not is_allowed("monai.networks.nets.TorchVisionFCModel")
    assert not is_allowed("monai.networks.nets.torchvision_fc.TorchVisionFCModel")
