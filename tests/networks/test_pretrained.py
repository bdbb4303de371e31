"""Published names and shapes are checked by their fingerprints, taken from torchvision 0.28.0 and timm 1.0.31."""

from __future__ import annotations

import hashlib
import pickle
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medresnet3d.errors import WeightsError
from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.pretrained import inflate, load_imagenet

# architecture: (pattern, replacement) from our names to the published ones, number of entries and fingerprint
PUBLISHED: dict[str, tuple[tuple[tuple[str, str], ...], int, str]] = {
    "vgg16": (((r"^classifier", "classifier.6"), (r"^hidden", "classifier")), 32, "ba63c2556d912509"),
    "vgg16_bn": (((r"^classifier", "classifier.6"), (r"^hidden", "classifier")), 97, "86bad13b66635552"),
    "vgg19": (((r"^classifier", "classifier.6"), (r"^hidden", "classifier")), 38, "393fac8b08b63fbe"),
    "vgg19_bn": (((r"^classifier", "classifier.6"), (r"^hidden", "classifier")), 118, "faf0fdbb92f698c6"),
    "resnet18": (((r"^classifier", "fc"),), 122, "5191d63ec3989592"),
    "resnet34": (((r"^classifier", "fc"),), 218, "f8de2a1812ef85e4"),
    "resnet50": (((r"^classifier", "fc"),), 320, "a87e91cd6bd1f939"),
    "densenet121": (((r"\.layers\.", "."),), 727, "9c659ec278435e95"),
    "xception": (((r"^classifier", "fc"),), 276, "70286d940e5d199d"),
    "mobilenet_v1": ((), 164, "f19026159041706a"),
}
SMALL = ("resnet18", "densenet121", "vgg16_bn", "mobilenet_v1", "xception")


def rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name, count = re.subn(pattern, replacement, name)
        if count:
            break
    return name


def published(arch: str, network: nn.Module) -> dict[str, Tensor]:
    """The network's tensors under their published names."""
    return {rename(name, PUBLISHED[arch][0]): tensor for name, tensor in network.state_dict().items()}


def randomised(arch: str, spatial_dims: int = 2, in_channels: int = 3, seed: int = 0, **options: object) -> nn.Module:
    """An eval-mode network whose normalisation layers are no identity either."""
    torch.manual_seed(seed)
    network = build_classifier(arch, spatial_dims, in_channels, 7, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize("arch", PUBLISHED)
def test_published_names_and_shapes(arch: str) -> None:
    with torch.device("meta"):
        names = published(arch, build_classifier(arch, 2, 3, 1000))
    text = "\n".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(names.items()))
    assert len(names) == PUBLISHED[arch][1]
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == PUBLISHED[arch][2]


@pytest.mark.parametrize("arch", SMALL)
def test_a_published_checkpoint_fills_the_2d_network(arch: str, tmp_path: Path) -> None:
    source = randomised(arch, width=0.0625)
    torch.save(published(arch, source), tmp_path / "weights.pth")
    network = build_classifier(arch, 2, 3, 7, width=0.0625).eval()
    report = load_imagenet(network, tmp_path / "weights.pth")
    assert set(report.loaded) == set(network.state_dict())
    assert not report.inflated
    assert not report.left
    image = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(network(image), source(image))


@pytest.mark.parametrize("arch", SMALL)
def test_a_network_with_batch_renormalisation_takes_the_published_statistics(arch: str, tmp_path: Path) -> None:
    source = randomised(arch, width=0.0625)
    torch.save(published(arch, source), tmp_path / "weights.pth")
    network = build_classifier(arch, 2, 3, 7, width=0.0625, norm="batch_renorm").eval()
    load_imagenet(network, tmp_path / "weights.pth")
    image = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(network(image), source(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", SMALL)
def test_inflated_network_answers_a_depth_constant_volume_as_the_2d_network_its_slice(
    arch: str, tmp_path: Path
) -> None:
    """The whole network, the grey first layer included; circular padding stands in for a volume without border."""
    source = randomised(arch, width=0.0625)
    torch.save(published(arch, source), tmp_path / "weights.pth")
    network = build_classifier(arch, 3, 1, 7, width=0.0625).eval()
    report = load_imagenet(network, tmp_path / "weights.pth")
    assert len(report.inflated) == sum(isinstance(module, nn.Conv3d) for module in network.modules())
    for module in [*source.modules(), *network.modules()]:
        if isinstance(module, nn.Conv2d | nn.Conv3d) and any(module.padding):
            module.padding_mode = "circular"
            module._reversed_padding_repeated_twice = [p for p in reversed(module.padding) for _ in range(2)]
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        flat = source(image.expand(1, 3, 32, 32))
        deep = network(image[..., None].expand(1, 1, 32, 32, 32))
    torch.testing.assert_close(deep, flat, rtol=1e-3, atol=1e-4 * float(flat.abs().max()))
    assert float(flat.std()) > 0


def test_inflation_is_exact_in_the_interior_and_falls_off_at_the_border() -> None:
    torch.manual_seed(0)
    flat, deep = nn.Conv2d(2, 3, 3, padding=1), nn.Conv3d(2, 3, 3, padding=1)
    deep.load_state_dict({"weight": inflate(flat.weight, 3), "bias": flat.bias})
    image = torch.randn(1, 2, 9, 9)
    with torch.no_grad():
        expected, volume = flat(image), deep(image[..., None].expand(-1, -1, -1, -1, 6))
    for k in range(1, 5):
        torch.testing.assert_close(volume[..., k], expected)
    assert not torch.allclose(volume[..., 0], expected, atol=1e-2)


@pytest.mark.parametrize("axis", [2, 3, -1])
def test_inflation_axis(axis: int) -> None:
    weight = torch.randn(4, 2, 3, 5)
    inflated = inflate(weight, 7, axis)
    assert inflated.shape[axis] == 7
    torch.testing.assert_close(inflated.sum(axis), weight)


@pytest.mark.parametrize("in_channels", [1, 2, 4])
def test_grey_first_layer_sums_red_green_and_blue(in_channels: int, tmp_path: Path) -> None:
    source = randomised("resnet18", width=0.0625)
    torch.save(published("resnet18", source), tmp_path / "weights.pth")
    network = build_classifier("resnet18", 2, in_channels, 7, width=0.0625).eval()
    load_imagenet(network, tmp_path / "weights.pth")
    grey = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        expected = source(grey.expand(1, 3, 32, 32))
        torch.testing.assert_close(network(grey.expand(1, in_channels, 32, 32)), expected, rtol=1e-4, atol=1e-4)


def test_other_classes_leave_the_last_layer_alone(tmp_path: Path) -> None:
    torch.save(published("vgg16_bn", randomised("vgg16_bn", width=0.0625)), tmp_path / "weights.pth")
    network = build_classifier("vgg16_bn", 2, 3, 2, width=0.0625)
    before = network.classifier.weight.clone()
    report = load_imagenet(network, tmp_path / "weights.pth")
    assert report.left == ("classifier.weight", "classifier.bias")
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
    load_imagenet(network, tmp_path / "weights.pth")
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), source.state_dict().values(), strict=True)
    )


def test_safetensors_file(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    source = randomised("mobilenet_v1", width=0.0625)
    save_file(published("mobilenet_v1", source), tmp_path / "weights.safetensors")
    network = build_classifier("mobilenet_v1", 2, 3, 7, width=0.0625)
    load_imagenet(network, tmp_path / "weights.safetensors")
    assert torch.equal(network.conv_stem.weight, source.conv_stem.weight)


def test_url_is_downloaded_once_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    file = tmp_path / "resnet18.pth"
    torch.save(published("resnet18", randomised("resnet18", width=0.0625)), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    network = build_classifier("resnet18", 2, 3, 7, width=0.0625)
    with pytest.raises(WeightsError, match="give the SHA-256"):
        load_imagenet(network, file.as_uri())
    with pytest.raises(WeightsError, match="not the expected one"):
        load_imagenet(network, file.as_uri(), "0" * 64)
    load_imagenet(network, file.as_uri(), digest)
    url = file.as_uri()
    file.unlink()
    assert load_imagenet(network, url, digest).loaded
    with pytest.raises(WeightsError, match="the download failed"):
        load_imagenet(network, url, "1" * 64)


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
        with pytest.raises(WeightsError, match="nothing was loaded"):
            load_imagenet(network, name)
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
            load_imagenet(network, tmp_path / f"{name}.pth")
    with pytest.raises(WeightsError, match="no such weights file"):
        load_imagenet(network, tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="its SHA-256 is"):
        load_imagenet(network, tmp_path / "another width.pth", "0" * 64)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
