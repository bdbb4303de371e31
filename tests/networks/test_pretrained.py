from __future__ import annotations

import dataclasses
import hashlib
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.resnet import ResNet, get_medicalnet_pretrained_resnet_args
from torch import nn

from medresnet3d.errors import WeightsError
from medresnet3d.networks.classifier import ARCHITECTURES, build_classifier
from medresnet3d.networks.layers.inception import MeanPool
from medresnet3d.networks.msresnet import build_msresnet
from medresnet3d.networks.multi_view import build_multi_view
from medresnet3d.networks.pretrained import load_pretrained
from medresnet3d.networks.regressor import build_regressor
from medresnet3d.networks.svm_classifier import build_svm_classifier
from medresnet3d.weights.cards import find_card
from medresnet3d.workflows.fetch_weights import fetch_weights
from tests.networks.published import AUXILIARY, published

NEW = ("alexnet", "googlenet", "inception_v3", "inception_v4")
SMALL = ("resnet18", "densenet121", "vgg16_bn", "mobilenet_v1", "xception", *NEW)
EDGE = {"alexnet": 63, "inception_v3": 75, "inception_v4": 75}  # smallest image


def randomised(arch: str, spatial_dims: int = 2, in_channels: int = 3, seed: int = 0, **options: object) -> nn.Module:
    """An eval-mode network whose normalisation layers are no identity either."""
    torch.manual_seed(seed)
    return shaken(build_classifier(arch, spatial_dims, in_channels, 7, **options))


def shaken(network: nn.Module) -> nn.Module:
    """The network in eval mode, with normalisation layers that are no identity."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize("arch", ["vgg16_bn", "resnet50", "densenet121", "googlenet", "inception_v3", "alexnet"])
def test_torchvision_gives_the_same_answer(arch: str, tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    plain = {"init_weights": False, "aux_logits": True} if arch in AUXILIARY else {}
    theirs = getattr(models, arch)(weights=None, num_classes=7, **plain).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = build_classifier(arch, 2, 3, 7).eval()
    load_pretrained(ours, tmp_path / "weights.pth")
    image = torch.rand(2, 3, 299, 299)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", SMALL)
def test_a_published_checkpoint_fills_the_2d_network(arch: str, tmp_path: Path) -> None:
    source = randomised(arch, width=0.0625)
    torch.save(published(arch, source), tmp_path / "weights.pth")
    network = build_classifier(arch, 2, 3, 7, width=0.0625).eval()
    report = load_pretrained(network, tmp_path / "weights.pth")
    assert set(report.loaded) == set(network.state_dict())
    assert not any((report.inflated, report.reshaped, report.left, report.missing, report.unexpected, report.misfits))
    image = torch.rand(1, 3, *[EDGE.get(arch, 40)] * 2)
    with torch.no_grad():
        assert torch.equal(network(image), source(image))


@pytest.mark.parametrize("arch", [arch for arch in SMALL if arch != "alexnet"])
def test_a_network_with_batch_renormalisation_takes_the_published_statistics(arch: str, tmp_path: Path) -> None:
    source = randomised(arch, width=0.0625)
    torch.save(published(arch, source), tmp_path / "weights.pth")
    network = build_classifier(arch, 2, 3, 7, width=0.0625, norm="batch_renorm").eval()
    load_pretrained(network, tmp_path / "weights.pth")
    image = torch.rand(1, 3, *[EDGE.get(arch, 40)] * 2)
    with torch.no_grad():
        torch.testing.assert_close(network(image), source(image), rtol=1e-4, atol=1e-5)


def without_border(network: nn.Module) -> None:
    """Circular padding in place of zeros, which stands in for a volume that goes on for ever."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and any(module.padding):
            module.padding_mode = "circular"
            module._reversed_padding_repeated_twice = [p for p in reversed(module.padding) for _ in range(2)]
        if isinstance(module, MeanPool):
            module.count_include_pad = False


@pytest.mark.parametrize("inflation", ["mean", "centre"])
@pytest.mark.parametrize("arch", SMALL)
def test_inflated_network_answers_a_depth_constant_volume_as_the_2d_network_its_slice(
    arch: str, inflation: str, tmp_path: Path
) -> None:
    """The whole network, the grey first layer included; kernels in the centre do not even see the border."""
    source = randomised(arch, width=0.0625, stem_stride=1)
    torch.save(published(arch, source), tmp_path / "weights.pth")
    network = build_classifier(arch, 3, 1, 7, width=0.0625, stem_stride=1).eval()
    report = load_pretrained(network, tmp_path / "weights.pth", inflation=inflation)
    assert len(report.inflated) == sum(isinstance(module, nn.Conv3d) for module in network.modules())
    assert len(report.reshaped) == (2 if arch in ("alexnet", "vgg16_bn") else 1)  # the grey stem; the pooled map
    if inflation == "mean":
        without_border(source)
        without_border(network)
    for module in [*source.modules(), *network.modules()]:
        if isinstance(module, MeanPool):
            module.count_include_pad = False
    edge = 40 if arch in EDGE else 32
    image = torch.rand(1, 1, edge, edge)
    with torch.no_grad():
        flat = source(image.expand(1, 3, edge, edge))
        deep = network(image[..., None].expand(1, 1, edge, edge, edge))
    torch.testing.assert_close(deep, flat, rtol=1e-3, atol=1e-4 * float(flat.abs().max()))
    assert float(flat.std()) > 0


@pytest.mark.parametrize("in_channels", [1, 2, 4])
def test_grey_first_layer_sums_red_green_and_blue(in_channels: int, tmp_path: Path) -> None:
    source = randomised("resnet18", width=0.0625)
    torch.save(published("resnet18", source), tmp_path / "weights.pth")
    network = build_classifier("resnet18", 2, in_channels, 7, width=0.0625).eval()
    load_pretrained(network, tmp_path / "weights.pth")
    grey = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        expected = source(grey.expand(1, 3, 32, 32))
        torch.testing.assert_close(network(grey.expand(1, in_channels, 32, 32)), expected, rtol=1e-4, atol=1e-4)


def test_other_classes_leave_the_last_layer_alone(tmp_path: Path) -> None:
    torch.save(published("vgg16_bn", randomised("vgg16_bn", width=0.0625)), tmp_path / "weights.pth")
    network = build_classifier("vgg16_bn", 2, 3, 2, width=0.0625)
    before = network.classifier.weight.clone()
    report = load_pretrained(network, tmp_path / "weights.pth")
    assert report.left == ["classifier.weight", "classifier.bias"]
    assert torch.equal(network.classifier.weight, before)


def test_old_densenet_names_are_read(tmp_path: Path) -> None:
    source = randomised("densenet121", width=0.0625)
    old = {
        re.sub(r"(norm|conv)(\d)\.(?=\w+$)", r"\1.\2.", n) if "denselayer" in n else n: t
        for n, t in published("densenet121", source).items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "weights.pth")
    network = build_classifier("densenet121", 2, 3, 7, width=0.0625)
    load_pretrained(network, tmp_path / "weights.pth")
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), source.state_dict().values(), strict=True)
    )


def test_safetensors_file(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    source = randomised("mobilenet_v1", width=0.0625)
    save_file(published("mobilenet_v1", source), tmp_path / "weights.safetensors")
    network = build_classifier("mobilenet_v1", 2, 3, 7, width=0.0625)
    load_pretrained(network, tmp_path / "weights.safetensors")
    assert torch.equal(network.conv_stem.weight, source.conv_stem.weight)


def test_url_is_downloaded_once_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    file = tmp_path / "resnet18.pth"
    torch.save(published("resnet18", randomised("resnet18", width=0.0625)), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    network = build_classifier("resnet18", 2, 3, 7, width=0.0625)
    with pytest.raises(WeightsError, match="give the SHA-256"):
        load_pretrained(network, file.as_uri())
    with pytest.raises(WeightsError, match="not the expected one"):
        load_pretrained(network, file.as_uri(), sha256="0" * 64)
    load_pretrained(network, file.as_uri(), sha256=digest)
    url = file.as_uri()
    file.unlink()
    assert load_pretrained(network, url, sha256=digest).loaded
    with pytest.raises(WeightsError, match="the download failed"):
        load_pretrained(network, url, sha256="1" * 64)


class _Attack:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("attacked"),)


def test_only_tensors_are_ever_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("attack.pth").write_bytes(pickle.dumps(_Attack()))
    torch.save({"conv1.weight": _Attack()}, "nested.pth")
    torch.save({"conv1.weight": "text"}, "text.pth")
    network = build_classifier("resnet10", 2, 3, 7, width=0.0625)
    for name in ("attack.pth", "nested.pth", "text.pth"):
        with pytest.raises(WeightsError, match=r"not loaded|is not a tensor"):
            load_pretrained(network, name)
    assert not Path("attacked").exists()


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    network = build_classifier("resnet18", 2, 3, 7, width=0.0625)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    cases = {
        "another architecture": (published("mobilenet_v1", randomised("mobilenet_v1", width=0.0625)), "names unknown"),
        "another width": (published("resnet18", randomised("resnet18", width=0.125)), "published width"),
    }
    for name, (state, message) in cases.items():
        torch.save(state, tmp_path / f"{name}.pth")
        with pytest.raises(WeightsError, match=message):
            load_pretrained(network, tmp_path / f"{name}.pth")
    with pytest.raises(WeightsError, match="no such weights file"):
        load_pretrained(network, tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="its SHA-256 is"):
        load_pretrained(network, tmp_path / "another width.pth", sha256="0" * 64)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("depth", [10, 18, 34, 50, 101, 152, 200])
def test_medicalnet_files_fit_the_network_that_their_card_names(depth: int) -> None:
    """Names and counts as in MONAI's ResNet with MedicalNet's arguments, whose module they load into."""
    block = "basic" if depth < 50 else "bottleneck"
    layers = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}
    layers |= {152: [3, 8, 36, 3], 200: [3, 24, 36, 3]}
    biased, shortcut = get_medicalnet_pretrained_resnet_args(depth)
    with torch.device("meta"):
        theirs = ResNet(
            block,
            layers[depth],
            [64, 128, 256, 512],
            3,
            1,
            conv1_t_stride=2,
            shortcut_type=shortcut,
            bias_downsample=biased,
            feed_forward=False,
        )
        ours = build_classifier(find_card(f"medicalnet_resnet{depth}").arch, 3, 1, 2)
    mine = {name: t.shape for name, t in ours.state_dict().items() if not name.startswith("classifier")}
    assert mine == {name: t.shape for name, t in theirs.state_dict().items()}


@pytest.mark.parametrize(("arch", "shortcut"), [("resnet10", "B"), ("resnet18_shortcut_a", "A")])
def test_a_medicalnet_checkpoint_fills_the_trunk(arch: str, shortcut: str, tmp_path: Path) -> None:
    """As MedicalNet saves it: prefix, decoder and all; the features are those of MONAI's network with the weights."""
    torch.manual_seed(0)
    layers = [1, 1, 1, 1] if arch == "resnet10" else [2, 2, 2, 2]
    theirs = ResNet(
        "basic", layers, [4, 8, 16, 32], 3, 1, conv1_t_stride=2, shortcut_type=shortcut, bias_downsample=False
    )
    image = torch.rand(2, 1, 33, 32, 31)
    with torch.no_grad():
        theirs.train()(image)  # moves running statistics off their start
    state = {f"module.{name}": t for name, t in theirs.state_dict().items() if not name.startswith("fc.")}
    decoder = {"module.conv_seg.0.weight": torch.zeros(2), "module.conv_seg.6.weight": torch.zeros(2)}
    torch.save({"state_dict": {**state, **decoder}, "epoch": 3}, tmp_path / "resnet_10.pth")
    network = build_classifier(arch, 3, 1, 2, width=0.0625).eval()
    report = load_pretrained(network, tmp_path / "resnet_10.pth")
    assert report.left == ["classifier.weight", "classifier.bias"]
    assert report.unexpected == ["conv_seg.0.weight", "conv_seg.6.weight"]
    theirs.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(network.forward_features(image), theirs.eval()(image))


def test_the_wrong_shortcut_is_told_with_the_right_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDRESNET3D_WEIGHTS", str(tmp_path / "store"))
    right = build_classifier("resnet18_shortcut_a", 3, 1, 2, width=0.0625)
    trunk = {name: t for name, t in right.state_dict().items() if not name.startswith("classifier")}
    torch.save(trunk, tmp_path / "resnet_18.pth")
    fetch_weights("medicalnet_resnet18", tmp_path / "resnet_18.pth")
    load_pretrained(right, "medicalnet_resnet18")
    with pytest.raises(WeightsError, match=r"15 missing .*arch=resnet18_shortcut_a"):
        load_pretrained(build_classifier("resnet18", 3, 1, 2, width=0.0625), "medicalnet_resnet18")


@pytest.mark.parametrize("arch", AUXILIARY)
def test_auxiliary_heads_in_the_file_are_passed_over_or_filled(arch: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"spatial_dims": 2, "in_channels": 3, "width": 0.0625}
    source = shaken(ARCHITECTURES[arch](num_classes=7, auxiliary=True, **options))
    torch.save(published(arch, source), tmp_path / "weights.pth")
    plain = load_pretrained(ARCHITECTURES[arch](num_classes=7, **options), tmp_path / "weights.pth")
    assert plain.unexpected
    assert all(name.startswith("auxiliary.") for name in plain.unexpected)
    same = load_pretrained(ARCHITECTURES[arch](num_classes=7, auxiliary=True, **options), tmp_path / "weights.pth")
    assert not same.unexpected
    assert not same.left
    other = load_pretrained(ARCHITECTURES[arch](num_classes=2, auxiliary=True, **options), tmp_path / "weights.pth")
    heads = ("classifier", "auxiliary.aux1.fc2", "auxiliary.aux2.fc2", "auxiliary.AuxLogits.fc")
    assert {name.rpartition(".")[0] for name in other.left} <= set(heads)
    assert len(other.left) == (6 if arch == "googlenet" else 4)


def test_a_background_class_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDRESNET3D_WEIGHTS", str(tmp_path / "store"))
    source = randomised("inception_v4", width=0.0625)
    source.classifier = nn.Linear(source.classifier.in_features, 1001)
    torch.save(published("inception_v4", source), tmp_path / "file.pth")
    digest = hashlib.sha256((tmp_path / "file.pth").read_bytes()).hexdigest()
    card = dataclasses.replace(find_card("inception_v4_imagenet"), sha256_prefix=digest[:8])
    monkeypatch.setattr("medresnet3d.workflows.fetch_weights.find_card", lambda name: card)
    fetch_weights("inception_v4_imagenet", tmp_path / "file.pth")
    network = build_classifier("inception_v4", 2, 3, 1000, width=0.0625)
    load_pretrained(network, "inception_v4_imagenet")
    assert torch.equal(network.classifier.weight, source.classifier.weight[1:])
    assert torch.equal(network.classifier.bias, source.classifier.bias[1:])


@pytest.mark.parametrize(("channels", "published_channels"), [(2, 1), (1, 3), (4, 3)])
def test_first_layer_for_other_channels_in_3d(channels: int, published_channels: int, tmp_path: Path) -> None:
    """Copies of one image in every channel give what one image gave."""
    torch.manual_seed(0)
    source = shaken(build_classifier("resnet10", 3, published_channels, 2, width=0.0625))
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    network = build_classifier("resnet10", 3, channels, 2, width=0.0625).eval()
    assert load_pretrained(network, tmp_path / "weights.pt").reshaped == ["conv1.weight"]
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        expected = source(image.expand(-1, published_channels, -1, -1, -1))
        torch.testing.assert_close(network(image.expand(-1, channels, -1, -1, -1)), expected, rtol=1e-4, atol=1e-4)


def test_not_strict_loads_what_fits_and_tells_the_rest(tmp_path: Path) -> None:
    source = randomised("resnet10", width=0.0625)
    state = source.state_dict()
    del state["layer1.0.conv1.weight"]
    state["layer2.0.conv1.weight"] = torch.zeros(3, 3, 3, 3)
    state["extra"] = torch.zeros(1)
    torch.save(state, tmp_path / "weights.pt")
    network = build_classifier("resnet10", 2, 3, 7, width=0.0625)
    with pytest.raises(WeightsError, match=r"1 names unknown to it \(extra\) and 1 missing"):
        load_pretrained(network, tmp_path / "weights.pt")
    report = load_pretrained(network, tmp_path / "weights.pt", strict=False)
    assert report.missing == ["layer1.0.conv1.weight"]
    assert report.unexpected == ["extra"]
    assert report.misfits == ["layer2.0.conv1.weight (3, 3, 3, 3) for (8, 4, 3, 3)"]
    assert len(report.loaded) == len(network.state_dict()) - 2
    assert torch.equal(network.conv1.weight, source.conv1.weight)
    assert "1 missing (layer1.0.conv1.weight)" in str(report)


def test_a_network_that_was_trained_with_a_margin_loss_is_a_start_too(tmp_path: Path) -> None:
    source = build_classifier("resnet10", 2, 3, 7, width=0.0625)
    source.classifier.set_mode(feature_scale=16.0, unit_weights=True)
    torch.save(source.state_dict(), tmp_path / "model.pt")
    report = load_pretrained(build_classifier("resnet10", 2, 3, 2, width=0.0625), tmp_path / "model.pt")
    assert report.unexpected == ["classifier.unit_weights", "classifier.feature_scale"]


def test_prelu_slopes_that_no_file_has_stay_as_they_are(tmp_path: Path) -> None:
    torch.save(published("resnet18", randomised("resnet18", width=0.0625)), tmp_path / "weights.pth")
    network = build_classifier("resnet18", 2, 3, 7, width=0.0625, act="prelu")
    assert not load_pretrained(network, tmp_path / "weights.pth").missing


def test_weights_that_were_not_fetched_say_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDRESNET3D_WEIGHTS", str(tmp_path))
    network = build_classifier("resnet18", 2, 3, 7, width=0.0625)
    with pytest.raises(WeightsError, match="medresnet3d weights fetch resnet18_imagenet"):
        load_pretrained(network, "resnet18_imagenet")
    with pytest.raises(WeightsError, match="did you mean 'resnet18_imagenet'"):
        load_pretrained(network, "resnet18_imagnet")


def imagenet(arch: str, folder: Path, **options: object) -> dict[str, torch.Tensor]:
    """Write a file with torchvision's names and shapes, of a thousand classes and narrow channels; give its tensors."""
    torch.manual_seed(7)
    source = shaken(build_classifier(arch, 2, 3, 1000, width=0.0625, **options))
    state = published(arch, source)
    torch.save(state, folder / f"{arch}.pth")
    return state


def test_each_trunk_of_a_multi_view_network_takes_an_imagenet_file(tmp_path: Path) -> None:
    state = imagenet("resnet18", tmp_path)
    network = build_multi_view("resnet18", width=0.0625)
    joined = network.classifier.weight.clone()
    report = load_pretrained(network, tmp_path / "resnet18.pth")
    own = network.state_dict()
    for name, tensor in state.items():
        if not name.startswith("fc."):
            expected = tensor.sum(1, keepdim=True) if name == "conv1.weight" else tensor  # the grey stem
            assert all(torch.equal(own[f"trunks.{trunk}.{name}"], expected) for trunk in range(3)), name
    assert report.reshaped == [f"trunks.{trunk}.conv1.weight" for trunk in range(3)]
    assert report.left == ["classifier.weight", "classifier.bias"] and torch.equal(network.classifier.weight, joined)


def test_a_3d_regressor_takes_a_medicalnet_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = ResNet("basic", [1, 1, 1, 1], [4, 8, 16, 32], 3, 1, conv1_t_stride=2, bias_downsample=False)
    state = {f"module.{name}": t for name, t in theirs.state_dict().items() if not name.startswith("fc.")}
    torch.save({"state_dict": {**state, "module.conv_seg.0.weight": torch.zeros(2)}}, tmp_path / "resnet_10.pth")
    network = build_regressor("resnet10", 50.0, 18.0, spatial_dims=3, in_channels=1, width=0.0625)
    report = load_pretrained(network, tmp_path / "resnet_10.pth")
    own = network.state_dict()
    assert all(torch.equal(own[name.replace("module.", "backbone.")], tensor) for name, tensor in state.items())
    fitted = ["mean", "deviation", "slope", "intercept"]
    assert sorted(report.left) == sorted([*fitted, "backbone.classifier.weight", "backbone.classifier.bias"])
    assert float(network.mean) == 50.0


def test_an_svm_starts_from_an_imagenet_file_and_from_an_earlier_training_without_its_machine(tmp_path: Path) -> None:
    state = imagenet("resnet18", tmp_path)
    first = build_svm_classifier("resnet18", width=0.0625, capacity=8)
    load_pretrained(first, tmp_path / "resnet18.pth")
    assert torch.equal(first.network.conv1.weight, state["conv1.weight"])
    first.svm.ready.fill_(True)
    torch.save(first.state_dict(), tmp_path / "model.pt")
    second = build_svm_classifier("resnet18", width=0.0625, capacity=16)
    report = load_pretrained(second, tmp_path / "model.pt")
    assert torch.equal(second.network.classifier.weight, first.network.classifier.weight)
    assert not bool(second.svm.ready) and all(name.startswith("svm.") for name in report.left)
    other = build_svm_classifier("resnet18", num_classes=5, width=0.0625)
    assert {"network.classifier.weight", "network.classifier.bias"} <= set(
        load_pretrained(other, tmp_path / "model.pt").left
    )


def test_a_regressor_starts_from_an_earlier_one_without_its_correction(tmp_path: Path) -> None:
    first = build_regressor("resnet10", 60.0, 9.0, spatial_dims=3, in_channels=1, width=0.0625)
    first.slope.fill_(0.5)
    torch.save(first.state_dict(), tmp_path / "model.pt")
    second = build_regressor("resnet10", 50.0, 18.0, spatial_dims=3, in_channels=1, width=0.0625)
    assert load_pretrained(second, tmp_path / "model.pt").left == ["slope", "intercept"]
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert not torch.equal(second.eval()(image), first.eval()(image))
        first.reset_correction()
        assert torch.equal(second(image), first(image))


def test_slices_that_vote_start_from_those_of_other_classes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, second = build_msresnet(2, 3, "slim"), build_msresnet(2, 2, "slim")
    torch.save(first.state_dict(), tmp_path / "model.pt")
    report = load_pretrained(second, tmp_path / "model.pt")
    assert report.left == ["network.classifier.weight", "network.classifier.bias"]
    trunk = [name for name in first.state_dict() if "classifier" not in name]
    assert all(torch.equal(second.state_dict()[name], first.state_dict()[name]) for name in trunk)


def test_what_does_not_fit_a_trunk_is_refused(tmp_path: Path) -> None:
    imagenet("resnet18", tmp_path)
    with pytest.raises(WeightsError, match="does not fit MultiViewClassifier"):
        load_pretrained(build_multi_view("resnet34", width=0.0625), tmp_path / "resnet18.pth")
    torch.save(build_multi_view("resnet10", share_weights=True, width=0.0625).state_dict(), tmp_path / "shared.pt")
    with pytest.raises(WeightsError, match="missing"):
        load_pretrained(build_multi_view("resnet10", width=0.0625), tmp_path / "shared.pt")


@pytest.mark.parametrize("arch", ["resnet10", "densenet121"])
def test_weights_of_monais_own_networks_in_3d(arch: str, tmp_path: Path) -> None:
    """What a MONAI bundle with one of these networks keeps in ``models/model.pt``, also under the name ``model``."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"spatial_dims": 3, "width": 0.0625}
    if arch == "resnet10":
        theirs: nn.Module = ResNet(
            "basic",
            [1, 1, 1, 1],
            [4, 8, 16, 32],
            n_input_channels=1,
            num_classes=2,
            conv1_t_stride=2,
            bias_downsample=False,
        )
    else:
        theirs = DenseNet(3, 1, 2, init_features=4, growth_rate=2, block_config=(6, 12, 24, 16))
    torch.save({"model": theirs.state_dict()}, tmp_path / "model.pt")
    network = build_classifier(arch, in_channels=1, num_classes=2, **options).eval()
    report = load_pretrained(network, tmp_path / "model.pt")
    assert set(report.loaded) == set(network.state_dict())
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(image), theirs.eval()(image))


def test_weights_of_monais_wrapper_of_torchvision(tmp_path: Path) -> None:
    source = randomised("resnet18", width=0.0625)
    children = ("conv1", "bn1", "act", "maxpool", "layer1", "layer2", "layer3", "layer4", "pool")
    numbered = nn.Sequential(*(getattr(source, name) for name in children))
    state = {f"features.{name}": tensor for name, tensor in numbered.state_dict().items()}
    head = {"fc.weight": source.classifier.weight[..., None, None], "fc.bias": source.classifier.bias}
    torch.save({**state, **head}, tmp_path / "model.pt")
    network = build_classifier("resnet18", 2, 3, 7, width=0.0625).eval()
    report = load_pretrained(network, tmp_path / "model.pt")
    assert report.left == ["classifier.weight"]
    image = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(network.forward_features(image), source.forward_features(image))
