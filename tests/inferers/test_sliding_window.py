from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer as MonaiInferer
from monai.inferers import sliding_window_inference
from torch import nn

from medresnet3d.errors import CancelledError, ConfigError
from medresnet3d.inferers import FlipInferer, SlidingWindowInferer


def network(dims: int = 2, channels: int = 1, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
    net = nn.Sequential(conv(channels, 4, 3, padding=1), norm(4), nn.ReLU(), conv(4, classes, 3, padding=1))
    net[1].running_mean.uniform_(-0.5, 0.5)
    net[1].running_var.uniform_(0.5, 2)
    return net.eval().requires_grad_(False)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


AXIS = st.tuples(st.integers(4, 22), st.integers(3, 12), st.sampled_from([0, 0.25, 0.5, 0.6, 0.8]))


@given(
    axes=st.lists(AXIS, min_size=2, max_size=3),
    mode=st.sampled_from(["constant", "gaussian"]),
    padding=st.sampled_from(["constant", "replicate", "reflect", "circular"]),
    images=st.integers(1, 2),
    windows=st.integers(1, 3),
    strategy=st.sampled_from(["exact", "windows"]),
)
@settings(max_examples=40, deadline=None)
def test_result_is_that_of_monai(
    axes: list[tuple[int, int, float]], mode: str, padding: str, images: int, windows: int, strategy: str
) -> None:
    sizes, rois, overlaps = zip(*axes, strict=True)
    if padding in ("reflect", "circular"):  # these need at least the padding's size
        rois = tuple(min(pair) for pair in zip(rois, sizes, strict=True))
    net, image = network(len(axes), 2), noise(images, 2, *sizes)
    settings_of_both: Any = (rois, windows, overlaps, mode, 0.125, padding, -1.0 if padding == "constant" else 0)
    inferer = SlidingWindowInferer(*settings_of_both, strategy=strategy, precision="fp32")
    expected = MonaiInferer(*settings_of_both)(image, net)
    assert torch.allclose(inferer(image, net), expected, atol=1e-5, rtol=0)
    inferer.output = "labels"
    labels = inferer(image, net)
    assert labels.dtype == torch.uint8
    top = expected.sort(dim=1, descending=True).values
    clear = top[:, :1] - top[:, 1:2] > 1e-4
    assert torch.equal(labels[clear].long(), expected.argmax(1, keepdim=True)[clear])
    inferer.output = "probabilities"
    assert torch.allclose(inferer(image, net), expected.softmax(1), atol=1e-5)


class Resolutions(nn.Module):
    """A dictionary with outputs at full, half and twice the resolution."""

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        half = nn.functional.avg_pool2d(image, 2)
        double = nn.functional.interpolate(image, scale_factor=2)
        return {"full": image.square(), "half": half.repeat(1, 3, 1, 1), "upper": double}


@pytest.mark.parametrize("size", [(24, 20), (6, 20), (24, 5)])
def test_outputs_of_other_resolutions_are_those_of_monai(size: tuple[int, int]) -> None:
    image = noise(2, 1, *size)
    found = SlidingWindowInferer(8, 1, 0.5, "gaussian", strategy="exact")(image, Resolutions())
    expected = sliding_window_inference(image, 8, 1, Resolutions(), 0.5, "gaussian")
    assert list(found) == list(expected) == ["full", "half", "upper"]
    for key, tensor in expected.items():
        assert torch.allclose(found[key], tensor, atol=1e-5), key


def test_tuples_keep_all_outputs() -> None:
    net, image = network(), noise(1, 1, 20, 16)
    inferer = SlidingWindowInferer(8, overlap=0.5, strategy="windows", precision="fp32", output="labels")
    first, second = inferer(image, lambda window: (net(window), -net(window)))
    expected = sliding_window_inference(image, 8, 1, net, 0.5)
    assert torch.equal(first, expected.argmax(1, keepdim=True))
    assert torch.equal(second, expected.argmin(1, keepdim=True))


def test_steps_need_not_divide_another_resolution() -> None:
    image, inferer = noise(1, 1, 29, 23), SlidingWindowInferer(8, overlap=0.4, strategy="exact")

    def shrink(window: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(window, size=(5, 3))

    assert torch.allclose(inferer(image, shrink), sliding_window_inference(image, 8, 1, shrink, 0.4), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.float64])
def test_any_number_type_is_taken(dtype: torch.dtype) -> None:
    image = (noise(1, 1, 18, 14) * 20 + 100).to(dtype)
    for strategy in ("exact", "windows"):
        net = network().to(torch.float64) if dtype == torch.float64 and strategy == "exact" else network()
        if dtype == torch.float16 and strategy == "exact":
            continue  # as MONAI does, the network gets what it is given
        found = SlidingWindowInferer(8, 1, 0.5, strategy=strategy, precision="fp32")(image, net)
        expected = sliding_window_inference(image.double(), 8, 1, network().double(), 0.5)
        assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-4)
        assert found.dtype == (torch.float64 if dtype == torch.float64 and strategy == "exact" else torch.float32)


def test_meta_data_stay() -> None:
    affine = torch.diag(torch.tensor([1.0, 2, 3, 1]))
    image = MetaTensor(noise(1, 1, 9, 8, 7), affine=affine, meta={"name": "case"})
    labels = SlidingWindowInferer(4, strategy="windows", output="labels")(image, network(3))
    assert isinstance(labels, MetaTensor)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.affine, affine.double())
    assert labels.meta["name"] == "case"


def test_memory_is_flat_along_the_longest_axis_and_far_below_the_output() -> None:
    net = network(3, classes=14)
    kept = []
    for length in (24, 48, 96):
        inferer = SlidingWindowInferer(8, overlap=0.25, mode="gaussian", strategy="windows", output="labels")
        inferer(torch.zeros(1, 1, 24, 24, length), net)
        assert inferer.report is not None
        kept.append(inferer.report.kept_bytes)
    assert kept[0] == kept[1] == kept[2]
    assert kept[0] < 96 * 24 * 24 * 14 * 4 / 5
    wide = SlidingWindowInferer(8, overlap=0.25, strategy="windows", output="labels", stream_axis=0)
    wide(torch.zeros(1, 1, 24, 24, 96), net)
    assert wide.report is not None
    assert wide.report.kept_bytes > kept[0]


def ball(*size: int) -> torch.Tensor:
    """A noisy box in the middle of zeros."""
    image = torch.zeros(1, 1, *size)
    middle = tuple(slice(length // 3, 2 * length // 3) for length in size)
    image[(..., *middle)] = noise(1, 1, *(part.stop - part.start for part in middle))
    return image


@given(
    sizes=st.lists(st.integers(12, 60), min_size=2, max_size=2),
    overlap=st.sampled_from([0, 0.25, 0.5]),
    output=st.sampled_from(["logits", "probabilities", "labels"]),
    answer=st.sampled_from([0, 2, None]),
)
@settings(max_examples=30, deadline=None)
def test_skipping_changes_nothing_where_there_is_something(
    sizes: list[int], overlap: float, output: str, answer: int | None
) -> None:
    net, image = network(), ball(*sizes)
    options: Any = {
        "overlap": overlap,
        "mode": "gaussian",
        "strategy": "windows",
        "precision": "fp32",
        "output": output,
    }
    inferer = SlidingWindowInferer(8, **options, skip_empty=True, empty_answer=answer)
    found, expected = inferer(image, net), SlidingWindowInferer(8, **options)(image, net)
    something = (image != 0).expand_as(found)
    assert torch.equal(found[something], expected[something])
    report = inferer.report
    assert report is not None
    assert report.windows_run + report.windows_skipped == report.windows_total
    assert report.crop is None


@pytest.mark.parametrize("output", ["logits", "probabilities", "labels"])
@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("answer", [0, 2])
def test_what_is_left_out_gets_the_declared_answer_and_is_reported(output: str, crop: bool, answer: int) -> None:
    inferer = SlidingWindowInferer(
        8, overlap=0.5, strategy="windows", output=output, skip_empty=not crop, crop_foreground=crop, margin=0,
        empty_answer=answer,
    )  # fmt: skip
    image = torch.zeros(1, 1, 48, 40)
    image[..., 24:32, 16:24] = 1
    found = inferer(image, network())
    report = inferer.report
    assert report is not None
    outside = torch.ones(1, 1, 48, 40, dtype=torch.bool)
    if crop:
        assert report.crop == ((24, 32), (16, 24))
        outside[..., 24:32, 16:24] = False
    else:
        assert report.windows_run == 9
        outside[..., 20:36, 12:28] = False
    assert report.left_out == pytest.approx(outside.double().mean().item())
    labels = found if output == "labels" else found.argmax(1, keepdim=True)
    assert (labels[outside] == answer).all()
    if output == "probabilities":
        assert (found[:, answer : answer + 1][outside] > 0.999).all()


def test_single_channel_and_no_answer() -> None:
    image = torch.zeros(1, 1, 48, 40)
    image[..., 24:32, 16:24] = 1
    net = network(classes=1)
    for answer, value in ((0, 0), (1, 1), (None, 0)):
        for output in ("logits", "probabilities", "labels"):
            inferer = SlidingWindowInferer(
                8, strategy="windows", output=output, crop_foreground=True, margin=0, empty_answer=answer
            )
            corner = inferer(image, net)[0, 0, 0, 0].item()
            assert corner == {"labels": value, "logits": 20 * (2 * value - 1)}.get(
                output, pytest.approx(value, abs=1e-6)
            )


def test_crop_equals_the_crop_by_hand() -> None:
    net, image = network(3), ball(40, 36, 32)
    inferer = SlidingWindowInferer(8, overlap=0.5, strategy="windows", precision="fp32", crop_foreground=True)
    found = inferer(image, net)
    assert inferer.report is not None
    assert inferer.report.crop is not None
    box = (..., *(slice(*edge) for edge in inferer.report.crop))
    assert torch.allclose(found[box], sliding_window_inference(image[box], 8, 1, net, 0.5), atol=1e-5)
    assert (image[box] != 0).sum() == (image != 0).sum()


def test_an_empty_image_costs_one_window() -> None:
    inferer = SlidingWindowInferer(8, strategy="windows", output="labels", skip_empty=True, empty_answer=1)
    labels = inferer(torch.zeros(1, 1, 40, 40), network())
    assert inferer.report is not None
    assert inferer.report.windows_run == 1
    assert (labels[..., 8:, 8:] == 1).all()


def test_without_background_nothing_is_left_out() -> None:
    inferer = SlidingWindowInferer(8, strategy="windows", skip_empty=True, crop_foreground=True)
    inferer(torch.rand(1, 1, 40, 40) + 5, network())
    assert inferer.report is not None
    assert inferer.report.left_out == 0
    assert "no background" in inferer.report.notes[0]


def test_report_says_why_a_network_runs_in_a_slower_form() -> None:
    class Upcasting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(torch.cat([x, torch.zeros(x.shape)], dim=1))

    inferer = SlidingWindowInferer(8, strategy="windows", precision="bf16")
    upcasting = Upcasting().eval()
    for _ in range(2):  # the second time the fast copy and what is known of it are there already
        inferer(ball(16, 16), upcasting)
        assert inferer.report is not None
        (note,) = inferer.report.notes
        assert note.startswith("the network does not run in bf16, channels last: ")


def test_exact_takes_no_short_cut() -> None:
    image = ball(40, 40)
    inferer = SlidingWindowInferer(
        8, overlap=0.5, strategy="exact", skip_empty=True, crop_foreground=True, precision="bf16"
    )
    assert torch.allclose(inferer(image, network()), sliding_window_inference(image, 8, 1, network(), 0.5), atol=1e-5)
    assert inferer.report is not None
    assert (inferer.report.precision, inferer.report.left_out) == ("fp32", 0)


@pytest.mark.parametrize("strategy", ["halo", "whole", "auto"])
@pytest.mark.parametrize("size", [(40, 26), (9, 33)])
def test_tiles_give_the_result_of_one_pass(strategy: str, size: tuple[int, int]) -> None:
    net, image = network(), noise(2, 1, *size)
    memory = 40_000 if strategy == "halo" else None
    inferer = SlidingWindowInferer(8, overlap=0.5, strategy=strategy, precision="fp32", memory=memory)
    assert torch.allclose(inferer(image, net), net(image), atol=1e-5)
    report = inferer.report
    assert report is not None
    assert report.strategy == ("halo" if strategy == "halo" else "whole")
    if strategy == "halo":
        assert report.windows_total >= 2
        assert report.halo == (2, 2)
    inferer.output = "labels"
    assert (inferer(image, net) == net(image).argmax(1, keepdim=True)).float().mean() > 0.999


def test_halo_is_refused_with_the_reason() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.InstanceNorm2d(2), nn.Conv2d(2, 2, 1))
    with pytest.raises(ConfigError, match="instance normalisation"):
        SlidingWindowInferer(8, strategy="halo")(noise(1, 1, 20, 20), net)
    inferer = SlidingWindowInferer(8, strategy="auto")
    inferer(noise(1, 1, 20, 20), net)
    assert inferer.report is not None
    assert inferer.report.strategy == "windows"
    assert "instance normalisation" in inferer.report.reason


def test_flips_inside_the_pass_are_those_of_the_whole_image() -> None:
    net, image = network(), noise(1, 1, 20, 16)
    inferer = SlidingWindowInferer(8, overlap=0.5, strategy="whole", precision="fp32", flips=(0, 1))
    assert torch.allclose(inferer(image, net), FlipInferer((0, 1))(image, net), atol=1e-5)
    # A grid that is its own mirror image: 8 voxels wide windows every 4 voxels.
    windows = SlidingWindowInferer(8, overlap=0.5, mode="gaussian", strategy="windows", precision="fp32", flips=(0,))
    flipped = FlipInferer((0,), MonaiInferer(8, 1, 0.5, "gaussian"))
    assert torch.allclose(windows(image, net), flipped(image, net), atol=1e-5)
    assert windows.report is not None
    assert (windows.report.flips, windows.report.views) == ((0,), 2)


def test_further_arguments_reach_the_network() -> None:
    image, condition = noise(2, 1, 20, 16), noise(2, 1, 20, 16) + 3

    class Conditioned(nn.Module):
        def forward(self, window: torch.Tensor, gain: float, *, shift: float, condition: torch.Tensor) -> torch.Tensor:
            return window * gain + shift + condition

    for strategy in ("exact", "windows", "auto"):
        inferer = SlidingWindowInferer(8, 2, 0.5, strategy=strategy, precision="fp32")
        found = inferer(image, Conditioned(), 2.0, shift=1.0, condition=condition)
        assert torch.allclose(found, image * 2 + 1 + condition, atol=1e-5)
    with pytest.raises(ConfigError, match="condition has the shape"):
        inferer(image, Conditioned(), 2.0, shift=1.0, condition=condition[:1])


def test_windows_places_are_those_of_monai() -> None:
    image = noise(2, 1, 12, 10)

    def places(window: torch.Tensor, coordinates: Any) -> torch.Tensor:
        starts = torch.tensor([[[c[0].start * 1000.0 + c[2].start * 30 + c[3].start]] for c in coordinates])
        return window + starts[..., None]

    ours = SlidingWindowInferer(6, 2, 0.5, with_coord=True, strategy="exact")(image, places)
    theirs = MonaiInferer(6, 2, 0.5, with_coord=True)(image, places)
    assert torch.allclose(ours, theirs, atol=1e-3)


def test_cancelling_ends_the_call() -> None:
    calls = []
    inferer = SlidingWindowInferer(8, strategy="windows", cancel=lambda: len(calls) >= 3)

    def counting(window: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return window

    with pytest.raises(CancelledError, match="cancelled"):
        inferer(noise(1, 1, 40, 40), counting)
    assert len(calls) == 3


def test_options_are_checked() -> None:
    for wrong in ({"mode": "triangle"}, {"strategy": "fast"}, {"output": "mask"}, {"padding_mode": "zeros"}):
        with pytest.raises(ConfigError, match="use one of"):
            SlidingWindowInferer(8, **wrong)
    with pytest.raises(ConfigError, match="empty_answer is 7"):
        SlidingWindowInferer(8, strategy="windows", empty_answer=7)(noise(1, 1, 9, 9), network())
    with pytest.raises(ConfigError, match="too small to be padded by reflect"):
        SlidingWindowInferer(30, padding_mode="reflect", strategy="windows")(noise(1, 1, 9, 9), network())
    with pytest.raises(ConfigError, match="needs a torch"):
        SlidingWindowInferer(8, strategy="windows", precision="bf16")(noise(1, 1, 9, 9), lambda window: window)


@pytest.mark.parametrize("wrong", [{"flips": [-1]}, {"flips": [0, 2]}, {"turns": (0, 2)}, {"stream_axis": 2}])
def test_axes_that_do_not_exist_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the image's spatial axes are 0 to 1"):
        SlidingWindowInferer(8, **wrong)(noise(1, 1, 9, 9), network())


def test_config_of_a_bundle_only_swaps_the_class() -> None:
    from monai.bundle import ConfigParser

    config = {"roi_size": [8, 8], "sw_batch_size": 2, "overlap": 0.5, "mode": "gaussian", "padding_mode": "replicate"}
    image = noise(1, 1, 20, 7)
    parser = ConfigParser({
        "ours": {"_target_": "medresnet3d.inferers.SlidingWindowInferer", **config, "strategy": "windows"},
        "theirs": {"_target_": "monai.inferers.SlidingWindowInferer", **config},
    })  # fmt: skip
    ours, theirs = (parser.get_parsed_content(name)(image, network()) for name in ("ours", "theirs"))
    assert torch.allclose(ours, theirs, atol=0.05)  # in the precision of this processor
    assert (ours.argmax(1) == theirs.argmax(1)).float().mean() > 0.95


def test_monais_own_arguments_are_all_taken() -> None:
    positional = (8, 1, 0.5, "gaussian", 0.125, "constant", 0.0, None, None, False, True, 10, 2, -1, False)
    image = noise(1, 1, 20, 20)
    ours = SlidingWindowInferer(*positional, strategy="exact")(image, network(), buffer_steps=None, device="cpu")
    assert torch.allclose(ours, MonaiInferer(*positional[:12])(image, network()), atol=1e-5)


def test_progress_is_shown_only_if_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medresnet3d.progress.PLAIN_INTERVAL_S", 0)
    for shown in (False, True):
        SlidingWindowInferer(8, progress=shown, strategy="windows")(noise(1, 1, 16, 16), network())
        assert ("windows: 9/9" in capsys.readouterr().err) == shown


@pytest.mark.gpu
@pytest.mark.parametrize("output", ["logits", "labels"])
@pytest.mark.parametrize("keep_on_device", [False, True])
def test_cuda_gives_the_answer_of_the_processor(output: str, keep_on_device: bool) -> None:
    net, image = network(3), ball(60, 40, 44)
    options: Any = {"overlap": 0.5, "mode": "gaussian", "output": output, "skip_empty": True, "strategy": "windows"}
    expected = SlidingWindowInferer(16, 1, **options, precision="fp32")(image, net)
    where = "cuda" if keep_on_device else None
    inferer = SlidingWindowInferer(16, 4, **options, sw_device="cuda", device=where, precision="fp32")
    found = inferer(image, net.cuda())
    assert found.device.type == ("cuda" if keep_on_device else "cpu")
    if output == "labels":
        assert (found.cpu() == expected).float().mean() > 0.999
    else:
        assert torch.allclose(found.cpu(), expected, atol=1e-3)
