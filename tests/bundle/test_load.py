from __future__ import annotations

import hashlib
import itertools
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from medresnet3d.bundle.load import (
    apply_overrides,
    fill_network,
    load_config,
    load_network,
    load_state_dict,
    parse_overrides,
    weights_hash,
)
from medresnet3d.bundle.registry import find_bundle
from medresnet3d.errors import BundleError, ConfigError, UntrustedBundleError, WeightsError
from tests.bundle.attacks import ATTACKS
from tests.bundle.small_bundle import write_bundle, write_json


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "models").mkdir()
    return folder


def _train(bundle: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = load_network(bundle, weights=False).state_dict()
    torch.save(state, bundle / "models/model.pt")
    return state


def test_config_knows_where_the_bundle_is(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parser = load_config("bundle")
    assert parser.get_parsed_content("output_dir") == f"{bundle}/eval"
    assert parser["_meta_"]["task"] == "segmentation"


def test_later_files_go_over_earlier_ones(bundle: Path) -> None:
    write_json(bundle / "configs/evaluate.json", {"inferer::overlap": 0.25})
    parser = load_config(bundle, ("inference.json", "evaluate.json"))
    assert parser["inferer"]["overlap"] == 0.25
    assert parser["inferer"]["roi_size"] == [8, 8, 8]


def test_macro_means_a_file_of_the_bundle(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "configs/part.json", {"a": "of the current folder"})
    write_json(bundle / "configs/part.json", {"a": "of the bundle"})
    write_json(bundle / "configs/evaluate.json", {"b": "%configs/part.json::a", "c": ["%bundle_root"]})
    parser = load_config(bundle, ("inference.json", "evaluate.json"))
    assert parser.get_parsed_content("b") == "of the bundle"
    assert parser.get_parsed_content("c") == [str(bundle)]


def test_yaml_stands_in_for_json(bundle: Path) -> None:
    (bundle / "configs/inference.json").unlink()
    (bundle / "configs/inference.yaml").write_text("a: 1\n")
    assert load_config(bundle)["a"] == 1


def test_missing_and_broken_configs_are_one_sentence(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"train\.json is missing"):
        load_config(bundle, ("train.json",))
    (bundle / "configs/train.json").write_text("{")
    with pytest.raises(BundleError, match="cannot be read"):
        load_config(bundle, ("train.json",))


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=1", 1), ("a=paper", "paper"), ("a=[1, 2]", [1, 2]), ("a=true", True), ("a=x=y", "x=y"), ("a=", "")],
)
def test_override_values_are_json_where_they_can_be(text: str, value: object) -> None:
    assert parse_overrides([text]) == {"a": value}


@pytest.mark.parametrize("text", ["a", "=1", " =1"])
def test_override_without_id_or_value_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="id=value"):
        parse_overrides([text])


def test_overrides_reach_nested_ids_and_new_arguments(bundle: Path) -> None:
    parser = load_config(bundle, overrides=["network_def#out_channels=3", "inferer::mode=gaussian"])
    assert parser["network_def"]["out_channels"] == 3
    assert parser["inferer"]["mode"] == "gaussian"


def test_a_named_component_takes_a_name_or_options(bundle: Path) -> None:
    named = {"_target_": "medresnet3d.losses.build_loss", "name": "focal", "gamma": 3, "reduction": "@reduction"}
    write_json(bundle / "configs/evaluate.json", {"loss": named, "reduction": "mean"})
    files = ("inference.json", "evaluate.json")
    renamed = load_config(bundle, files, ["loss=hinge", "loss#margin=2.0"])
    expected = {**named, "name": "hinge", "margin": 2.0}
    del expected["gamma"]
    assert renamed["loss"] == expected
    merged = load_config(bundle, files, ['loss={"name": "cosface", "margin": 0.2}'])
    assert merged.get_parsed_content("loss").margin == 0.2
    replaced = load_config(bundle, files, ['loss={"_target_": "torch.nn.MSELoss"}'])
    assert replaced["loss"] == {"_target_": "torch.nn.MSELoss"}


@pytest.mark.parametrize(
    ("key", "nearest"), [("outputdir", "output_dir"), ("network_deff::channels", "network_def::channels")]
)
def test_unknown_override_names_the_nearest(key: str, nearest: str, bundle: Path) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{nearest}'"):
        apply_overrides(load_config(bundle), {key: 1})


def test_network_is_in_eval_mode_with_its_weights(bundle: Path) -> None:
    state = _train(bundle)
    network = load_network(bundle)
    assert not network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_network_takes_overrides(bundle: Path) -> None:
    overrides: dict[str, Any] = {"network_def::out_channels": 5}
    network = load_network(bundle, weights=False, **overrides)
    assert network(torch.zeros(1, 1, 8, 8, 8)).shape[1] == 5


def test_half_precision_becomes_float32(bundle: Path) -> None:
    state = _train(bundle)
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    torch.save(halves, bundle / "models/model.pt")
    loaded = load_state_dict(bundle)
    assert {value.dtype for value in loaded.values()} == {value.dtype for value in state.values()}
    assert all(torch.equal(value, halves[name].to(value.dtype)) for name, value in loaded.items())


def test_safetensors_are_read(bundle: Path) -> None:
    state = _train(bundle)
    (bundle / "models/model.pt").unlink()
    safetensors.torch.save_file(state, bundle / "models/model.safetensors")
    loaded = load_state_dict(bundle)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


def test_checkpoint_that_holds_the_state_under_a_name_is_read(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "last.pt")
    assert load_state_dict(tmp_path / "last.pt")["a"].tolist() == [1, 1]


def test_missing_weights_say_how_to_get_them(bundle: Path) -> None:
    message = "this bundle has no trained weights: train it with `medresnet3d train bundle --data MANIFEST -o RUN`"
    with pytest.raises(WeightsError, match=message):
        load_network(bundle)


@pytest.mark.parametrize("attack", ["pickled_model", "pickled_model_zip", "pickled_model_text_protocol", "broken_zip"])
def test_anything_but_tensors_is_refused_without_running(attack: str, tmp_path: Path) -> None:
    ATTACKS[attack](tmp_path / "bundle", tmp_path / "sentinel")
    with pytest.raises(WeightsError, match="not loaded"):
        load_state_dict(tmp_path / "bundle")
    assert not (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("content", [{}, [1], {"a": 1}, {"a": torch.zeros(1), "b": "x"}])
def test_a_state_dict_holds_tensors_only(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"model\.pt"):
        load_state_dict(tmp_path / "model.pt")


def test_weights_that_do_not_fit_are_named() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
    state = {name: value for name, value in network.state_dict().items() if name != "1.bias"}
    state |= {"0.weight": torch.zeros(5, 2), "extra": torch.zeros(1)}
    with pytest.raises(WeightsError) as caught:
        fill_network(network, state, "model.pt")
    message = str(caught.value)
    assert "1.bias is missing" in message
    assert "extra is not part" in message
    assert "0.weight is (5, 2), the network wants (3, 2)" in message


def test_many_misfits_are_counted() -> None:
    with pytest.raises(WeightsError, match="and 1 more"):
        fill_network(torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)), {}, "model.pt")


def test_untrusted_bundle_gives_no_network(tmp_path: Path) -> None:
    ATTACKS["expression call"](tmp_path / "bundle", tmp_path / "sentinel")
    with pytest.raises(UntrustedBundleError):
        load_network(tmp_path / "bundle", weights=False)
    assert not (tmp_path / "sentinel").exists()


def test_bundle_without_a_network_is_named(bundle: Path) -> None:
    write_json(bundle / "configs/inference.json", {"bundle_root": "."})
    with pytest.raises(BundleError, match="network_def"):
        load_network(bundle)
    write_json(bundle / "configs/inference.json", {"network_def": {"_target_": "Identity"}})
    with pytest.raises(BundleError, match="not a network"):
        load_network(bundle)


def test_hash_is_that_of_the_file(bundle: Path) -> None:
    with pytest.raises(WeightsError):
        weights_hash(bundle)
    _train(bundle)
    content = (bundle / "models/model.pt").read_bytes()
    assert weights_hash(bundle) == hashlib.sha256(content).hexdigest()


def test_names_are_found_while_another_thread_imports_modules() -> None:
    locator = load_config(find_bundle("brain_tissue_voxresnet")).locator
    expected = sorted(locator._find_module_names())
    done = threading.Event()

    added: list[str] = []

    def import_things() -> None:
        for number in itertools.count():
            added.append(f"imported_meanwhile_{number}")
            sys.modules[added[-1]] = sys
            if done.wait(1e-5):
                return

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=import_things, daemon=True)
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        assert all(sorted(locator._find_module_names()) == expected for _ in range(100))
    finally:
        done.set()
        thread.join(timeout=10)
        sys.setswitchinterval(interval)
        for name in added:
            del sys.modules[name]
    assert "monai.transforms" in expected
