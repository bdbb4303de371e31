"""The crop lies where the map is largest, at corners too, in 2D and 3D."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError
from medresnet3d.networks.cascade import PeakCascade, crop_around, peak_position


def by_padding(image: Tensor, position: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """The same by plain slices of a padded image."""
    pad = [n for edge in reversed(size) for n in (edge, edge)]
    padded = nn.functional.pad(image, pad)
    places = [slice(p + s - s // 2, p + s - s // 2 + s) for p, s in zip(position, size, strict=True)]
    return padded[(slice(None), slice(None), *places)]


@pytest.mark.parametrize(("shape", "size"), [((9, 7), (4, 5)), ((6, 5, 7), (3, 4, 2)), ((3, 4), (8, 8))])
def test_every_position_and_corner(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    image = torch.rand(1, 2, *shape)
    for position in itertools.product(*map(range, shape)):
        crop = crop_around(image, torch.tensor([position]), size)
        assert torch.equal(crop, by_padding(image, position, size))


@pytest.mark.parametrize("shape", [(5, 8), (3, 5, 4)])
def test_the_peak_is_found_and_the_first_of_equals_counts(shape: tuple[int, ...]) -> None:
    for position in itertools.product(*map(range, shape)):
        score = torch.zeros(2, *shape)
        score[(0, *position)] = 1
        assert peak_position(score, shape).tolist() == [list(position), [0] * len(shape)]


def test_a_coarser_map_points_at_the_middle_of_its_voxel() -> None:
    score = torch.zeros(1, 4, 2)
    score[0, 3, 1] = 1
    assert peak_position(score, (16, 6)).tolist() == [[14, 4]]


class Brightness(nn.Module):
    """A dense network that finds the brightest voxel, at half the resolution."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(x[:, :1], 2)


def cascade() -> PeakCascade:
    return PeakCascade(Brightness(), nn.Sequential(nn.Flatten(), nn.Linear(2 * 16, 3)), (4, 4))


def test_the_classification_depends_on_the_crop_alone() -> None:
    net, image = cascade().eval(), torch.rand(1, 2, 12, 12)
    image[0, 0, 9, 2] = 5
    image.requires_grad_()
    net(image).sum().backward()
    seen = image.grad[0].abs().sum(0) > 0
    rows, columns = torch.where(seen)
    assert seen.sum() == 16
    assert rows.min() == 7 and rows.max() == 10 and columns.min() == 1 and columns.max() == 4


def test_training_gives_the_dense_logits_too_and_eval_one_tensor() -> None:
    net, image = cascade(), torch.rand(3, 2, 12, 12)
    logits, dense = net.train()(image)
    assert logits.shape == (3, 3) and dense.shape == (3, 1, 6, 6)
    net.eval()
    assert torch.equal(net(image), logits)
    traced = torch.jit.trace(net, image[:1])
    other = torch.rand(4, 2, 12, 12)
    torch.testing.assert_close(traced(other), net(other))


def test_a_crop_of_one_dimension_is_refused() -> None:
    with pytest.raises(ConfigError, match="two or three"):
        PeakCascade(nn.Identity(), nn.Identity(), (4,))
