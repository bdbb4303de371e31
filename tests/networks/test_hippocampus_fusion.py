"""Shape in the mask and texture in the patch: the fused classifier against each branch, at equal parameters and steps.

A toy in 2D. Each side shows an ellipse somewhere. In half of the people the class shows in its length, in the others in
the contrast of a fine pattern in its middle, and the other cue is neutral: whoever reads one cue alone, however well,
is right in three of four. The same pattern lies about outside too, mostly stronger, where it means nothing. A patch is
smaller than the ellipse, so that it shows the pattern but not the length.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medresnet3d.engines.staged import training_only
from medresnet3d.losses.multitask import MultitaskLoss, OutputLoss
from medresnet3d.metrics.paired import paired_test
from medresnet3d.networks.hippocampus import HippocampusClassifier, PatchDenseNet
from medresnet3d.networks.residual_unet import ResidualUNet

EDGE, PATCH, PEOPLE, BATCH, SPOTS = 32, 8, 128, 8, 8
STEPS = {"trunk": 150, "head": 50}
RATES = (1e-2, 3e-3)
SHAPE, TEXTURE = r"(segmenter|auxiliary\.shape)\.", r"(patches|auxiliary\.texture)\."
CE = nn.CrossEntropyLoss()


def draw(rng: np.random.Generator, people: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Images (people, 2, n, n), classes and masks."""
    y, x = np.mgrid[:EDGE, :EDGE]
    checks = np.where((x + y) % 2, 1.0, -1.0)
    images, masks, labels = [], [], []
    for _ in range(people):
        label = int(rng.integers(2))
        told = 2 * label - 1
        cues = np.array([told, 0] if rng.integers(2) else [0, told])
        length, contrast = cues + rng.uniform(-0.25, 0.25, 2)
        labels.append(label)
        for _ in range(2):
            cy, cx = rng.integers(13, EDGE - 13, 2)
            inside = ((y - cy) / (9 + 2 * length)) ** 2 + ((x - cx) / 7) ** 2 < 1
            image = inside + 0.2 * rng.standard_normal((EDGE, EDGE))
            near = (np.abs(y - cy) < 5) & (np.abs(x - cx) < 5)
            image += rng.choice([-1, 1]) * checks * near * 0.2 * (1.25 + contrast)
            for py, px in rng.integers(0, EDGE, (SPOTS, 2)):
                spot = (np.abs(y - py) < 5) & (np.abs(x - px) < 5) & ~inside
                image += rng.choice([-1, 1]) * checks * spot * rng.uniform(0, 1)
            images.append(image)
            masks.append(inside)
    shape = (people, 2, EDGE, EDGE)
    image, mask = (torch.from_numpy(np.stack(each).reshape(shape)).float() for each in (images, masks))
    return image, {"label": torch.tensor(labels), "mask": mask}


def network(width: int) -> HippocampusClassifier:
    segmenter = ResidualUNet(2, 1, 2, width=width, fine=4, blocks=(1, 1, 1))
    return HippocampusClassifier(segmenter, PatchDenseNet(2, growth=6, layers=(2, 2)), patch_size=(PATCH, PATCH))


def counted(net: nn.Module, arm: str) -> int:
    """Parameters that the arm's answer depends on."""
    idle = {"fused": ("auxiliary",), "shape": ("patches", "classifier", "auxiliary.texture")}
    idle["texture"] = ("classifier", "auxiliary.shape")
    return sum(p.numel() for name, p in net.named_parameters() if not name.startswith(idle[arm]))


def run(
    net: nn.Module,
    batches: Iterator[tuple[Tensor, dict[str, Tensor]]],
    loss: nn.Module,
    rate: float,
    steps: int,
    trainable: str | None,
) -> None:
    """Train some of the parameters with one cycle of the learning rate."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    net.train()
    with training_only(net, trainable):
        for _ in range(steps):
            image, target = next(batches)
            optimizer.zero_grad()
            loss(net(image), target).backward()
            optimizer.step()
            schedule.step()


def accuracy(arm: str, rate: float, seed: int) -> tuple[float, int]:
    """Share of 500 new people that are told right, and the parameters of the arm."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    people, target = draw(rng, PEOPLE)

    def batch() -> tuple[Tensor, dict[str, Tensor]]:
        some = torch.from_numpy(rng.integers(PEOPLE, size=BATCH))
        return people[some], {key: value[some] for key, value in target.items()}

    batches = iter(batch, None)
    net = network(9 if arm == "shape" else 8)
    multitask, trunk, head = MultitaskLoss(CE), STEPS["trunk"], STEPS["head"]
    if arm == "shape":
        run(net, batches, multitask, rate, 2 * trunk + 2 * head, SHAPE)
    else:
        run(net, batches, multitask, rate, trunk, SHAPE)
        more = 2 * head if arm == "texture" else 0
        run(net, batches, OutputLoss(CE, 2), rate, trunk + more, TEXTURE)
    if arm == "fused":
        run(net, batches, OutputLoss(CE, 0), rate, head, r"classifier\.")
        run(net, batches, OutputLoss(CE, 0), rate / 10, head, None)
    net.eval()
    image, truth = draw(np.random.default_rng(1000 + seed), 500)
    with torch.no_grad():
        shape, texture, _ = net.look(image)
        logits = {"fused": lambda: net(image), "shape": lambda: net.auxiliary["shape"](shape)}
        logits["texture"] = lambda: net.auxiliary["texture"](texture)
        right = (logits[arm]().argmax(1) == truth["label"]).float().mean()
    return float(right), counted(net, arm)


def test_the_arms_have_equal_parameters() -> None:
    sizes = [counted(network(9 if arm == "shape" else 8), arm) for arm in ("fused", "shape", "texture")]
    assert max(sizes) < 1.1 * min(sizes)


@pytest.mark.slow
def test_fusion_beats_each_branch_with_one_seed() -> None:
    fused, shape, texture = (accuracy(arm, RATES[0], 0)[0] for arm in ("fused", "shape", "texture"))
    assert fused > max(shape, texture) + 0.1


@pytest.mark.slow
def test_fusion_beats_each_branch_with_five_seeds() -> None:
    """Each arm has its own learning rate, the better of the two with the first seed."""
    scores: dict[str, list[float]] = {}
    for arm in ("fused", "shape", "texture"):
        tried = {rate: accuracy(arm, rate, 0)[0] for rate in RATES}
        rate = max(tried, key=lambda rate: tried[rate])
        scores[arm] = [tried[rate], *(accuracy(arm, rate, seed)[0] for seed in range(1, 5))]
        tries = {rate: round(score, 3) for rate, score in tried.items()}
        print(arm, tries, rate, np.round(scores[arm], 3).tolist(), flush=True)
    compared = {arm: paired_test(scores["fused"], scores[arm]).difference for arm in ("shape", "texture")}
    for arm, gain in compared.items():
        print(f"fused minus {arm} {gain.value:.3f}, {gain.low:.3f} to {gain.high:.3f}", flush=True)
    assert all(gain.low > 0 for gain in compared.values())
