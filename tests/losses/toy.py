"""A problem with two features on which margins show: four noisy classes and a small network."""

from __future__ import annotations

import torch
from torch import nn

from medresnet3d.losses.margin import MarginLoss
from medresnet3d.networks.heads.linear import LinearHead

CLASSES = 4


def mean_angle(loss: MarginLoss, steps: int = 150) -> float:
    """Train with ``loss``; the mean angle of new samples' features to the direction of their class, in degrees."""
    torch.manual_seed(0)
    centres = torch.randn(CLASSES, 8)
    label = torch.arange(200) % CLASSES
    body, head = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2)), LinearHead(2, CLASSES)
    image, new = (centres[label] + 0.4 * torch.randn(200, 8) for _ in range(2))
    loss.prepare(head)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss.on_head(body(image), head, label).backward()
        optimizer.step()
    with torch.no_grad():
        features = body(new)
        assert (head(features).argmax(1) == label).float().mean() > 0.95
        directions = torch.stack([features[label == k].mean(0) for k in range(CLASSES)])
        cosines = nn.functional.cosine_similarity(features, directions[label])
    return float(torch.rad2deg(cosines.clamp(-1, 1).acos()).mean())
