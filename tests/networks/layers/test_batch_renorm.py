from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.layers.factories import Norm
from monai.networks.layers.utils import get_norm_layer
from monai.networks.nets import UNet
from torch import nn
from torch.multiprocessing import start_processes
from torch.nn.parallel import DistributedDataParallel

from medresnet3d.engines.device import stop_distributed
from medresnet3d.errors import ConfigError
from medresnet3d.networks.layers.batch_renorm import (
    BATCH_NORMS,
    BatchRenorm,
    BatchRenorm1d,
    BatchRenorm2d,
    BatchRenorm3d,
    synchronise_batch_renorm,
)

X = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)[:, None]


def at_once(features: int, r_max: float = 3.0, d_max: float = 5.0) -> BatchRenorm:
    """A layer whose limits are at their end from the first batch on."""
    return BatchRenorm1d(features, eps=1e-12, r_max=r_max, d_max=d_max, warmup=0, r_steps=0, d_steps=0).double()


@pytest.mark.parametrize(
    ("r_max", "d_max", "expected"),
    [
        (3.0, 5.0, [1.0, 2.0, 3.0, 4.0]),  # nothing is clipped: what evaluation gives
        (1.0, 0.0, [-1.3416, -0.4472, 0.4472, 1.3416]),  # batch normalisation
        (1.05, 1.0, [-0.4087, 0.5304, 1.4696, 2.4087]),
    ],
)
def test_values_of_the_specification(r_max: float, d_max: float, expected: list[float]) -> None:
    layer = at_once(1, r_max, d_max).train()
    assert layer(X).flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_correction_uses_the_statistics_before_they_move_and_keeps_the_deviation_not_the_variance() -> None:
    layer = at_once(1).train()
    layer(X)
    assert float(layer.running_mean) == pytest.approx(0.01 * 2.5)
    assert float(layer.running_std) == pytest.approx(1 + 0.01 * (1.25**0.5 - 1))
    assert int(layer.num_batches_tracked) == 1
    evaluated = layer.eval()(X)
    torch.testing.assert_close(evaluated, (X - layer.running_mean) / layer.running_std)
    assert int(layer.num_batches_tracked) == 1


def test_schedule_is_the_papers_by_default_and_counted_in_a_buffer() -> None:
    layer = BatchRenorm2d(1)
    expected = {0: (1, 0), 5000: (1, 0), 15000: (1 + 2 * 10 / 35, 2.5), 25000: (1 + 2 * 20 / 35, 5), 40000: (3, 5)}
    for step, limits in {**expected, 90000: (3, 5)}.items():
        layer.num_batches_tracked.fill_(step)
        assert [float(limit) for limit in layer.limits()] == pytest.approx(limits)
    layer.num_batches_tracked.fill_(12345)
    other = BatchRenorm2d(1)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(torch.stack(other.limits()), torch.stack(layer.limits()))


@given(st.integers(1, 500), st.integers(0, 500), st.integers(0, 2000))
@settings(max_examples=50)
def test_limits_never_fall_and_stay_within_their_ends(warmup: int, rise: int, step: int) -> None:
    layer = BatchRenorm1d(1, warmup=warmup, r_steps=warmup + rise, d_steps=warmup + rise)
    found = []
    for seen in (step, step + 1):
        layer.num_batches_tracked.fill_(seen)
        found.append([float(limit) for limit in layer.limits()])
    assert 1 <= found[0][0] <= found[1][0] <= 3
    assert 0 <= found[0][1] <= found[1][1] <= 5
    assert (found[0] == [1.0, 0.0]) or step >= warmup


@pytest.mark.parametrize(
    ("kind", "plain", "shape"),
    [
        (BatchRenorm1d, nn.BatchNorm1d, (6, 3)),
        (BatchRenorm1d, nn.BatchNorm1d, (6, 3, 4)),
        (BatchRenorm2d, nn.BatchNorm2d, (6, 3, 4, 4)),
        (BatchRenorm3d, nn.BatchNorm3d, (6, 3, 4, 4, 4)),
    ],
)
def test_in_the_warm_up_it_is_batch_normalisation_with_its_gradients(
    kind: type[BatchRenorm], plain: type[nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    ours, theirs = kind(3).double(), plain(3).double()
    for layer in (ours, theirs):
        nn.init.constant_(layer.weight, 1.7)
        nn.init.constant_(layer.bias, -0.3)
    image, weight = torch.randn(shape).double() * 3 + 5, torch.randn(shape).double()
    results = []
    for layer in (ours, theirs):
        x = image.clone().requires_grad_()
        (layer(x) * weight).sum().backward()
        results.append((layer(image), x.grad, layer.weight.grad, layer.bias.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_gradient_takes_the_correction_as_a_constant() -> None:
    """Against finite differences of the formula with r and d held fixed."""
    torch.manual_seed(0)
    layer = at_once(2, 1.2, 0.5).train()
    x = (torch.randn(5, 2).double() * 2 + 1).requires_grad_()
    with torch.no_grad():
        deviation = (x.var(0, correction=0) + layer.eps).sqrt()
        r, d = deviation.clamp(1 / 1.2, 1.2), x.mean(0).clamp(-0.5, 0.5)

    def fixed(value: torch.Tensor) -> torch.Tensor:
        return (value - value.mean(0)) / (value.var(0, correction=0) + layer.eps).sqrt() * r + d

    torch.testing.assert_close(layer(x), fixed(x))
    weight = torch.randn(5, 2).double()
    layer.running_mean.zero_()
    layer.running_std.fill_(1.0)
    (found,) = torch.autograd.grad((layer(x) * weight).sum(), x)
    (expected,) = torch.autograd.grad((fixed(x) * weight).sum(), x)
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(fixed, (x,))


def gap(norm: nn.Module, batches: list[torch.Tensor]) -> float:
    """Mean distance of a layer's outputs in training and in evaluation, after it has seen the batches many times."""
    for _ in range(60):
        for batch in batches:
            norm.train()(batch)
    with torch.no_grad():
        training = torch.cat([norm.train()(batch) for batch in batches])
        evaluation = torch.cat([norm.eval()(batch) for batch in batches])
    return float((training - evaluation).abs().mean())


def test_small_and_sorted_batches_open_a_gap_for_batch_normalisation_and_not_here() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(64, 4, generator=generator) + 3 * torch.arange(4).repeat_interleave(16)[:, None]
    shuffled = data[torch.randperm(64, generator=generator)]
    for batches in (list(shuffled.split(2)), list(data.split(16))):  # two samples; one class a batch
        plain = gap(nn.BatchNorm1d(4, momentum=0.01), batches)
        renorm = gap(BatchRenorm1d(4, warmup=100, r_steps=200, d_steps=200), batches)
        assert plain > 0.3
        assert renorm < 0.1 * plain


def test_monais_way_of_passing_channels_and_its_networks_take_the_name() -> None:
    for dims, kind in enumerate((BatchRenorm1d, BatchRenorm2d, BatchRenorm3d), start=1):
        assert Norm["batch_renorm", dims] is kind
        assert type(get_norm_layer(("batch_renorm", {"momentum": 0.2}), dims, 5)) is kind
    network = UNet(3, 1, 2, channels=(4, 8), strides=(2,), norm=("batch_renorm", {"warmup": 10}))
    network(torch.randn(2, 1, 8, 8, 8)).sum().backward()
    assert sum(isinstance(module, BatchRenorm3d) and module.warmup == 10 for module in network.modules()) == 2


def test_bfloat16_and_channels_last_are_kept_and_statistics_stay_in_float32() -> None:
    layer = BatchRenorm2d(4, warmup=0, r_steps=0, d_steps=0)
    image = torch.randn(3, 4, 6, 6).to(torch.bfloat16).to(memory_format=torch.channels_last)
    for mode in (True, False):
        output = layer.train(mode)(image)
        assert output.dtype == torch.bfloat16
        assert output.is_contiguous(memory_format=torch.channels_last)
    assert layer.running_std.dtype == torch.float32


def test_a_scripted_layer_trains_as_the_layer_itself() -> None:
    image = torch.randn(4, 3, 5, 5)
    ours, other = BatchRenorm2d(3, warmup=1), BatchRenorm2d(3, warmup=1)
    scripted = torch.jit.script(other)
    for _ in range(3):
        torch.testing.assert_close(scripted(image), ours(image))
    torch.testing.assert_close(other.running_std, ours.running_std)
    torch.testing.assert_close(scripted.eval()(image), ours.eval()(image))


@pytest.mark.parametrize("affine", [True, False])
def test_in_evaluation_a_batch_norm_can_stand_in_for_it(affine: bool) -> None:
    layer, image = BatchRenorm2d(3, affine=affine, warmup=0, r_steps=0, d_steps=0), torch.randn(4, 3, 5, 5) * 2 + 1
    for _ in range(20):
        layer(image)
    plain = layer.as_batch_norm()
    assert type(plain) is nn.BatchNorm2d
    torch.testing.assert_close(plain(image), layer.eval()(image))


def test_it_is_known_as_a_batch_norm_and_not_turned_into_another_one() -> None:
    network = nn.Sequential(BatchRenorm2d(3), nn.BatchNorm2d(3), BatchRenorm2d(3, affine=False))
    assert all(isinstance(layer, BATCH_NORMS) for layer in network)
    assert isinstance(nn.SyncBatchNorm.convert_sync_batchnorm(network)[0], BatchRenorm2d)
    assert list(network[2].parameters()) == []
    assert network[2](torch.randn(2, 3, 4, 4)).shape == (2, 3, 4, 4)


def test_one_value_for_each_channel_or_another_dimension_is_refused_in_training() -> None:
    with pytest.raises(ValueError, match="more than 1 value"):
        BatchRenorm2d(3)(torch.randn(1, 3, 1, 1))
    with pytest.raises(ValueError, match="expected an input"):
        BatchRenorm2d(3)(torch.randn(4, 3, 5))


@pytest.mark.parametrize("options", [{"r_max": 0.5}, {"d_max": -1}, {"momentum": 0.0}])
def test_impossible_limits_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="r_max >= 1"):
        BatchRenorm1d(1, **options)


def whole_batch() -> tuple[torch.Tensor, torch.Tensor, nn.Module]:
    torch.manual_seed(0)
    x, target = torch.randn(10, 3).double() * 2 + 1, torch.randn(10, 3).double()
    return x, target, nn.Sequential(nn.Linear(3, 3), BatchRenorm1d(3, warmup=1, r_steps=2, d_steps=2)).double()


def train_one_part(rank: int, folder: str) -> None:
    """What each of the two processes does; their batches differ in size."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    x, target, network = whole_batch()
    part = slice(0, 4) if rank == 0 else slice(4, 10)
    network = DistributedDataParallel(synchronise_batch_renorm(network))
    for _ in range(4):
        network.zero_grad()
        ((network(x[part]) - target[part]) ** 2).sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.module.named_parameters()}
    torch.save({"state": network.module.state_dict(), "gradients": gradients}, f"{folder}/{rank}.pt")
    stop_distributed()


def test_two_processes_normalise_as_one_with_the_whole_batch(tmp_path: Path) -> None:
    start_processes(train_one_part, (str(tmp_path),), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    x, target, network = whole_batch()
    for _ in range(4):
        network.zero_grad()
        ((network(x) - target) ** 2).sum().backward()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(first["state"][name], value)
        torch.testing.assert_close(second["state"][name], value)
    for name, parameter in network.named_parameters():  # the wrapper averages over the two processes
        torch.testing.assert_close(2 * first["gradients"][name], parameter.grad)


def test_without_a_process_group_a_synchronised_layer_is_an_ordinary_one() -> None:
    torch.manual_seed(0)
    image, plain = torch.randn(4, 3), BatchRenorm1d(3)
    both = synchronise_batch_renorm(nn.Sequential(BatchRenorm1d(3)))
    assert torch.equal(both(image), plain(image))
