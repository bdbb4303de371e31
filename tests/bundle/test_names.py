from __future__ import annotations

import pytest

from medresnet3d.bundle.names import argument_problem, is_allowed, is_config_only, locate_bare


def test_names_are_exact() -> None:
    assert is_allowed("monai.networks.nets.UNet")
    assert is_allowed("monai.networks.nets.unet.UNet")
    assert is_allowed("torch.nn.Conv3d")
    for dotted in ("monai.networks", "monai.networks.nets.UNet.os", "torch.os.system", "torch", "", "UNet"):
        assert not is_allowed(dotted)


def test_loaders_may_be_called_where_their_arguments_are_seen() -> None:
    for dotted in ("monai.transforms.LoadImage", "monai.transforms.SaveImaged", "monai.inferers.PatchInferer"):
        assert is_allowed(dotted) and is_config_only(dotted)
    assert not is_config_only("monai.networks.nets.UNet")


def test_bare_names_are_what_monai_finds() -> None:
    from monai.bundle import ComponentLocator

    locator = ComponentLocator()
    for name in ("UNet", "run", "LoadImaged", "system"):
        found = locator.get_component_module_name(name)
        modules = [] if found is None else [found] if isinstance(found, str) else found
        assert sorted(locate_bare(name)) == sorted(f"{module}.{name}" for module in modules)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reader", None),
        ("reader", "ITKReader"),
        ("reader", "monai.data.ITKReader"),
        ("reader", ["ITKReader", "NibabelReader"]),
        ("writer", "NibabelWriter"),
        ("allow_pickle", False),
        ("compile_kwargs", {}),
        ("keys", "os.system"),
    ],
)
def test_usual_arguments_pass(name: str, value: object) -> None:
    assert argument_problem(name, value) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reader", "os.system"),
        ("reader", "@x"),
        ("reader", ["ITKReader", "os.system"]),
        ("writer", "ITKReader"),
        ("writer", "evil.monai.data.ITKWriter"),
        ("allow_pickle", True),
        ("allow_pickle", "@x"),
        ("merger_cls", "subprocess.Popen"),
        ("compile_kwargs", {"backend": "x"}),
    ],
)
def test_dangerous_arguments_are_named(name: str, value: object) -> None:
    assert argument_problem(name, value)
