from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medresnet3d.workflows.foreign_rewrite import SAVED, Rewriting, any_text, components, short_name


def rewritten(
    config: dict[str, Any], path: Path = Path("/nowhere"), device: str = "cpu", hand_over: bool = True
) -> Any:
    rewriting = Rewriting(path, device, hand_over)
    rewriting.apply(config)
    return config, rewriting


def test_only_what_a_loader_needs_is_left_of_it() -> None:
    config: dict[str, Any] = {"a": {"_target_": "LoadImaged", "keys": "image", "reader": "X", "converter": "$f"}}
    assert rewritten(config)[0] == {"a": {"_target_": "LoadImaged", "keys": "image"}}
    kept: dict[str, Any] = {"a": {"_target_": "LoadImaged", "keys": "image", "reader": "X"}}
    assert rewritten(kept, hand_over=False)[0]["a"]["reader"] == "X"


def test_a_saver_only_says_what_it_saved() -> None:
    config: dict[str, Any] = {"post": [{"_target_": "SaveImaged", "keys": ["pred"], "output_ext": ".json"}]}
    assert rewritten(config)[0]["post"][0] == {"_target_": SAVED, "keys": ["pred"], "allow_missing_keys": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$torch.device('cuda')", "$torch.device('cpu')"),
        ('$x.to("cuda:0")', "$x.to('cpu')"),
        ("cuda:1", "cpu"),
        ("cuda study", "cuda study"),
    ],
)
def test_a_cpu_takes_the_place_of_cuda(text: str, expected: str) -> None:
    assert rewritten({"a": text})[0]["a"] == expected
    assert rewritten({"a": text}, device="cuda:0")[0]["a"] == text


def test_files_of_the_bundle_are_found_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "code.pt").touch()
    config = {"a": "/workspace/zoo/models/code.pt", "b": "./models/code.pt", "c": "/workspace/other.pt", "d": "x/y"}
    result, _ = rewritten(dict(config), tmp_path)
    assert result["a"] == result["b"] == str(tmp_path / "models" / "code.pt")
    assert (result["c"], result["d"]) == (config["c"], config["d"])


def test_imports_of_absent_packages_are_left_out() -> None:
    config, rewriting = rewritten(
        {"imports": ["$import os", "$import absent_package as pd", "$from absent_two import x"]}
    )
    assert config["imports"] == ["$import os"]
    assert rewriting.absent == ["absent_package", "absent_two"]


def test_successors_and_dropped_arguments() -> None:
    config: dict[str, Any] = {
        "a": {"_target_": "AddChanneld", "keys": "image"},
        "b": {"_target_": "SwinUNETR", "img_size": 96, "in_channels": 1},
        "c": {"_target_": "SegResNet", "norm_name": "batch"},
        "d": {"_target_": "UNETR", "pos_embed": "perceptron"},
        "e": {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "meta_key_postfix": "meta_dict"},
        "f": {"_target_": "Invertd", "keys": "pred", "meta_key_postfix": "meta_dict"},
    }
    result, rewriting = rewritten(config)
    assert result["a"] == {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": "no_channel"}
    assert result["b"] == {"_target_": "SwinUNETR", "in_channels": 1}
    assert result["c"] == {"_target_": "SegResNet", "norm_name": "batch"}
    assert result["d"] == {"_target_": "UNETR", "proj_type": "perceptron"}
    assert "meta_key_postfix" not in result["e"]
    assert "meta_key_postfix" in result["f"]
    assert len(rewriting.notes) == 2


def test_going_through_a_configuration() -> None:
    config = {"a": {"_target_": "x.One", "b": [{"_target_": "Two"}]}}
    assert [(key, short_name(node)) for key, node in components(config)] == [("a", "One"), ("a::b::0", "Two")]
    assert any_text(config, lambda text: text == "Two")
    assert not any_text(config, lambda text: "Three" in text)
