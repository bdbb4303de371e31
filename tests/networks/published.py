"""Names and shapes of the published state dicts, written down by hand from torchvision's and timm's sources.

Nothing here uses the package's own networks: it is what they are compared with. The fingerprints are of the libraries'
own state dicts (torchvision 0.28.0, timm 1.0.31); AlexNet and the Inception networks have none yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor, nn

Shapes = dict[str, tuple[int, ...]]

CLASSES = 1000
VGG = {
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
RESNET = {
    "resnet18": ("basic", 2, 2, 2, 2),
    "resnet34": ("basic", 3, 4, 6, 3),
    "resnet50": ("bottleneck", 3, 4, 6, 3),
    "resnet101": ("bottleneck", 3, 4, 23, 3),
    "resnet152": ("bottleneck", 3, 8, 36, 3),
}
DENSENET = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32), "densenet201": (6, 12, 48, 32)}

# name of a convolution below its block: channels out, channels in, kernel
GOOGLENET_BLOCKS = {
    "inception3a": (192, 64, 96, 128, 16, 32, 32),
    "inception3b": (256, 128, 128, 192, 32, 96, 64),
    "inception4a": (480, 192, 96, 208, 16, 48, 64),
    "inception4b": (512, 160, 112, 224, 24, 64, 64),
    "inception4c": (512, 128, 128, 256, 24, 64, 64),
    "inception4d": (512, 112, 144, 288, 32, 64, 64),
    "inception4e": (528, 256, 160, 320, 32, 128, 128),
    "inception5a": (832, 256, 160, 320, 32, 128, 128),
    "inception5b": (832, 384, 192, 384, 48, 128, 128),
}
V3_A = """branch1x1 64 {c} 1 1; branch5x5_1 48 {c} 1 1; branch5x5_2 64 48 5 5; branch3x3dbl_1 64 {c} 1 1;
 branch3x3dbl_2 96 64 3 3; branch3x3dbl_3 96 96 3 3; branch_pool {p} {c} 1 1"""
V3_B = "branch3x3 384 {c} 3 3; branch3x3dbl_1 64 {c} 1 1; branch3x3dbl_2 96 64 3 3; branch3x3dbl_3 96 96 3 3"
V3_C = """branch1x1 192 {c} 1 1; branch7x7_1 {p} {c} 1 1; branch7x7_2 {p} {p} 1 7; branch7x7_3 192 {p} 7 1;
 branch7x7dbl_1 {p} {c} 1 1; branch7x7dbl_2 {p} {p} 7 1; branch7x7dbl_3 {p} {p} 1 7; branch7x7dbl_4 {p} {p} 7 1;
 branch7x7dbl_5 192 {p} 1 7; branch_pool 192 {c} 1 1"""
V3_D = """branch3x3_1 192 {c} 1 1; branch3x3_2 320 192 3 3; branch7x7x3_1 192 {c} 1 1; branch7x7x3_2 192 192 1 7;
 branch7x7x3_3 192 192 7 1; branch7x7x3_4 192 192 3 3"""
V3_E = """branch1x1 320 {c} 1 1; branch3x3_1 384 {c} 1 1; branch3x3_2a 384 384 1 3; branch3x3_2b 384 384 3 1;
 branch3x3dbl_1 448 {c} 1 1; branch3x3dbl_2 384 448 3 3; branch3x3dbl_3a 384 384 1 3; branch3x3dbl_3b 384 384 3 1;
 branch_pool 192 {c} 1 1"""
V3_BLOCKS = {
    "Mixed_5b": (V3_A, 192, 32),
    "Mixed_5c": (V3_A, 256, 64),
    "Mixed_5d": (V3_A, 288, 64),
    "Mixed_6a": (V3_B, 288, 0),
    "Mixed_6b": (V3_C, 768, 128),
    "Mixed_6c": (V3_C, 768, 160),
    "Mixed_6d": (V3_C, 768, 160),
    "Mixed_6e": (V3_C, 768, 192),
    "Mixed_7a": (V3_D, 768, 0),
    "Mixed_7b": (V3_E, 1280, 0),
    "Mixed_7c": (V3_E, 2048, 0),
}
V3_STEM = """Conv2d_1a_3x3 32 3 3 3; Conv2d_2a_3x3 32 32 3 3; Conv2d_2b_3x3 64 32 3 3; Conv2d_3b_1x1 80 64 1 1;
 Conv2d_4a_3x3 192 80 3 3"""
V4_STEM = """0 32 3 3 3; 1 32 32 3 3; 2 64 32 3 3; 3.conv 96 64 3 3; 4.branch0.0 64 160 1 1; 4.branch0.1 96 64 3 3;
 4.branch1.0 64 160 1 1; 4.branch1.1 64 64 1 7; 4.branch1.2 64 64 7 1; 4.branch1.3 96 64 3 3; 5.conv 192 192 3 3"""
V4_A = """branch0 96 384 1 1; branch1.0 64 384 1 1; branch1.1 96 64 3 3; branch2.0 64 384 1 1; branch2.1 96 64 3 3;
 branch2.2 96 96 3 3; branch3.1 96 384 1 1"""
V4_RA = "branch0 384 384 3 3; branch1.0 192 384 1 1; branch1.1 224 192 3 3; branch1.2 256 224 3 3"
V4_B = """branch0 384 1024 1 1; branch1.0 192 1024 1 1; branch1.1 224 192 1 7; branch1.2 256 224 7 1;
 branch2.0 192 1024 1 1; branch2.1 192 192 7 1; branch2.2 224 192 1 7; branch2.3 224 224 7 1; branch2.4 256 224 1 7;
 branch3.1 128 1024 1 1"""
V4_RB = """branch0.0 192 1024 1 1; branch0.1 192 192 3 3; branch1.0 256 1024 1 1; branch1.1 256 256 1 7;
 branch1.2 320 256 7 1; branch1.3 320 320 3 3"""
V4_C = """branch0 256 1536 1 1; branch1_0 384 1536 1 1; branch1_1a 256 384 1 3; branch1_1b 256 384 3 1;
 branch2_0 384 1536 1 1; branch2_1 448 384 3 1; branch2_2 512 448 1 3; branch2_3a 256 512 1 3; branch2_3b 256 512 3 1;
 branch3.1 256 1536 1 1"""


def published_shapes(name: str) -> Shapes:
    """Names and shapes of the state dict of an architecture at 1000 classes."""
    if name in VGG or name.removesuffix("_bn") in VGG:
        return dict(_vgg(VGG[name.removesuffix("_bn")], norm=name.endswith("_bn")))
    if name in RESNET:
        return dict(_resnet(*RESNET[name]))
    if name in DENSENET:
        return dict(_densenet(DENSENET[name]))
    tables = {
        "alexnet": _alexnet,
        "googlenet": _googlenet,
        "inception_v3": _inception_v3,
        "inception_v4": _inception_v4,
    }
    return dict(tables[name]())


def _norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{tensor}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def _affine(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _units(prefix: str, table: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Convolutions with batch normalisation: ``name out in height width``, separated by semicolons."""
    for entry in table.split(";"):
        name, *numbers = entry.split()
        shape = tuple(map(int, numbers))
        yield f"{prefix}{name}.conv.weight", shape
        yield from _norm(f"{prefix}{name}.bn", shape[0])


def _alexnet() -> Iterator[tuple[str, tuple[int, ...]]]:
    for index, *shape in ((0, 64, 3, 11, 11), (3, 192, 64, 5, 5), (6, 384, 192, 3, 3), (8, 256, 384, 3, 3)):
        yield from _affine(f"features.{index}", *shape)
    yield from _affine("features.10", 256, 256, 3, 3)
    for index, *shape in ((1, 4096, 9216), (4, 4096, 4096), (6, CLASSES, 4096)):
        yield from _affine(f"classifier.{index}", *shape)


def _vgg(columns: str, norm: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    index, before = 0, 3
    for column in columns.split():
        if column == "M":
            index += 1
            continue
        yield from _affine(f"features.{index}", int(column), before, 3, 3)
        if norm:
            yield from _norm(f"features.{index + 1}", int(column))
        index, before = index + (3 if norm else 2), int(column)
    for index, *shape in ((0, 4096, 25088), (3, 4096, 4096), (6, CLASSES, 4096)):
        yield from _affine(f"classifier.{index}", *shape)


def _resnet(kind: str, *repeats: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "conv1.weight", (64, 3, 7, 7)
    yield from _norm("bn1", 64)
    before, expansion = 64, 1 if kind == "basic" else 4
    for stage, blocks in enumerate(repeats):
        planes = 64 * 2**stage
        after = planes * expansion
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            convolutions = (
                [(planes, before, 3), (planes, planes, 3)]
                if kind == "basic"
                else [(planes, before, 1), (planes, planes, 3), (after, planes, 1)]
            )
            for number, (out, inner, edge) in enumerate(convolutions, 1):
                yield f"{name}.conv{number}.weight", (out, inner, edge, edge)
                yield from _norm(f"{name}.bn{number}", out)
            if block == 0 and before != after:
                yield f"{name}.downsample.0.weight", (after, before, 1, 1)
                yield from _norm(f"{name}.downsample.1", after)
            before = after
    yield from _affine("fc", CLASSES, before)


def _densenet(repeats: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "features.conv0.weight", (64, 3, 7, 7)
    yield from _norm("features.norm0", 64)
    channels = 64
    for block, layers in enumerate(repeats, 1):
        for layer in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            yield from _norm(f"{name}.norm1", channels)
            yield f"{name}.conv1.weight", (128, channels, 1, 1)
            yield from _norm(f"{name}.norm2", 128)
            yield f"{name}.conv2.weight", (32, 128, 3, 3)
            channels += 32
        if block < len(repeats):
            yield from _norm(f"features.transition{block}.norm", channels)
            yield f"features.transition{block}.conv.weight", (channels // 2, channels, 1, 1)
            channels //= 2
    yield from _norm("features.norm5", channels)
    yield from _affine("classifier", CLASSES, channels)


def _googlenet() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _units("", "conv1 64 3 7 7; conv2 64 64 1 1; conv3 192 64 3 3")
    for name, (before, c1, r3, c3, r5, c5, pooled) in GOOGLENET_BLOCKS.items():
        table = f"branch1 {c1} {before} 1 1; branch2.0 {r3} {before} 1 1; branch2.1 {c3} {r3} 3 3;"
        table += f"branch3.0 {r5} {before} 1 1; branch3.1 {c5} {r5} 3 3; branch4.1 {pooled} {before} 1 1"
        yield from _units(f"{name}.", table)
    for name, before in (("aux1", 512), ("aux2", 528)):
        yield from _units(f"{name}.", f"conv 128 {before} 1 1")
        yield from _affine(f"{name}.fc1", 1024, 2048)
        yield from _affine(f"{name}.fc2", CLASSES, 1024)
    yield from _affine("fc", CLASSES, 1024)


def _inception_v3() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _units("", V3_STEM)
    for name, (table, before, inner) in V3_BLOCKS.items():
        yield from _units(f"{name}.", table.format(c=before, p=inner))
    yield from _units("AuxLogits.", "conv0 128 768 1 1; conv1 768 128 5 5")
    yield from _affine("AuxLogits.fc", CLASSES, 768)
    yield from _affine("fc", CLASSES, 2048)


def _inception_v4() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _units("features.", V4_STEM)
    blocks = [V4_A] * 4 + [V4_RA] + [V4_B] * 7 + [V4_RB] + [V4_C] * 3
    for index, table in enumerate(blocks, 6):
        yield from _units(f"features.{index}.", table)
    yield from _affine("last_linear", CLASSES, 1536)


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
# published names are written down in tests/networks/published.py; (pattern, replacement) from our names to them
RENAMED: dict[str, tuple[tuple[str, str], ...]] = {
    "alexnet": (
        (r"^classifier", "classifier.6"),
        (r"^hidden\.0", "classifier.1"),
        (r"^hidden\.3", "classifier.4"),
    ),
    "googlenet": ((r"^(features|auxiliary)\.", ""), (r"^classifier", "fc")),
    "inception_v3": (
        (r"\.branch_pool\.2\.", ".branch_pool."),
        (r"(branch\dx\w+)\.(\d)\.(?:([ab])\.)?", r"\1_\2\3."),
        (r"^(features|auxiliary)\.", ""),
        (r"^classifier", "fc"),
    ),
    "inception_v4": (
        (r"(\.(?:19|20|21)\.branch[12])\.(\d)\.(?:([ab])\.)?", r"\1_\2\3."),
        (r"^classifier", "last_linear"),
    ),
}
AUXILIARY = ("googlenet", "inception_v3")
WRITTEN = (
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *(f"densenet{depth}" for depth in (121, 169, 201)),
    "alexnet",
    "googlenet",
    "inception_v3",
    "inception_v4",
)


def rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def published(arch: str, network: nn.Module) -> dict[str, Tensor]:
    """The network's tensors under their published names."""
    rules = RENAMED[arch] if arch in RENAMED else PUBLISHED[arch][0]
    return {rename(name, rules): tensor for name, tensor in network.state_dict().items()}
