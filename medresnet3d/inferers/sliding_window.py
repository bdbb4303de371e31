"""Sliding-window inference with the memory of the overlaps, the work of the foreground and MONAI's interface."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import BlendMode, PytorchPadMode, convert_to_dst_type

from medresnet3d.errors import CancelledError, ConfigError
from medresnet3d.inferers.foreground import Foreground, find_foreground
from medresnet3d.inferers.layout import Layout, LayoutOptions, choose_layout
from medresnet3d.inferers.memory import reused_memory
from medresnet3d.inferers.report import InferenceReport
from medresnet3d.inferers.runner import Extras, Runner, home
from medresnet3d.inferers.sinks import OUTPUTS
from medresnet3d.inferers.slabs import SlabPass, SlabPlan
from medresnet3d.inferers.streams import Target
from medresnet3d.inferers.tiles import Box, TilePass, TilePlan
from medresnet3d.inferers.views import Views
from medresnet3d.inferers.window_pass import WindowPass, pad_image
from medresnet3d.inferers.windows import importance
from medresnet3d.progress import Progress

STRATEGIES = ("auto", "windows", "halo", "slabs", "whole", "exact")


class SlidingWindowInferer(Inferer):
    """Run a network over windows of an image; a drop-in replacement for ``monai.inferers.SlidingWindowInferer``.

    Every voxel's sum is final as soon as no later window covers it, and becomes the answer at once, so that beside the
    output only the overlaps are kept. The network runs as a fast copy (:func:`~medresnet3d.inferers.execution.prepare`)
    in eval mode and without gradients; a function that is no module runs as it is. All sums are float32.

    Args:
        roi_size: voxels of a window along each spatial axis; one number for all; ``None`` or below 1: the whole axis.
        sw_batch_size: windows that the network computes at once; more than 1 is worth it on a GPU only.
        overlap: share of a window that the next one covers again, in [0, 1), for all axes or each.
        mode: weights of a window's voxels: ``constant`` or ``gaussian``.
        sigma_scale: width of the Gaussian as a share of the window, for all axes or each.
        padding_mode: how an image smaller than the window is padded: ``constant``, ``reflect``, ``replicate`` or
            ``circular``.
        cval: value of constant padding.
        sw_device: where the network computes; ``None``: where its parameters are, or the image if it has none.
        device: where the output is kept; ``None``: where the image is.
        progress: show the progress.
        cache_roi_weight_map: accepted and not needed: the weights are computed once a call, in milliseconds.
        cpu_thresh: an image of more voxels gets its output in main memory, where ``device`` says nothing else.
        buffer_steps: accepted and not needed: the sums are always kept where the network computes.
        buffer_dim: accepted and not needed.
        with_coord: the network's second argument says where the windows lie in the padded image.
        strategy: ``windows``: MONAI's grid of windows; ``halo``: tiles that each carry all the context that can change
            them, so that every voxel is computed once and the result is that of one pass (refused, with the reason, for
            networks that look at the whole image, such as those with instance normalisation); ``whole``: one pass;
            ``slabs``: that pass in slabs along one axis, between which each layer keeps the planes that it still needs:
            no voxel is computed twice, and the memory does not depend on the axis' length (refused as ``halo`` is);
            ``exact``: MONAI's own result to 1e-5 (the network as it is, fp32; no crop and no skipping whatever else is
            asked for); ``auto``: ``whole``, or else ``slabs`` or ``halo``, where the network allows it, memory suffices
            and it is less work, else ``windows``.
        output: ``logits``, ``probabilities`` (softmax; sigmoid of a single channel) or ``labels``: (B, 1, ...), the
            largest channel, or for a single one whether its logit is above 0.
        skip_empty: leave out windows in which there is nothing but background; the others stay as they are, so that
            every voxel that only they cover keeps its answer.
        crop_foreground: lay the grid over the foreground's box only.
        margin: voxels around that box.
        background: value of empty voxels; ``None``: found from the image, see
            :func:`~medresnet3d.inferers.foreground.find_foreground`.
        empty_answer: class that is answered for what is left out; ``None``: no class (all logits low).
        flips: spatial axes to mirror each window along; the outputs for all combinations are averaged.
        turns: two spatial axes in whose plane each window is also turned by 90, 180 and 270 degrees, for averaging.
        precision: number format of the network: ``auto`` (bf16 where the processor has it, fp16 on CUDA), ``fp32``,
            ``bf16`` or ``fp16``.
        fold: fold batch normalisation into the convolutions.
        backend: ``torch`` or ``openvino``.
        memory: bytes that one pass over a tile or slab may take under ``auto``, ``halo`` and ``slabs``; ``None``: half
            of what is free, at most 1.5 GiB, and 256 MiB where ``auto`` meets an image of more than 256 cubed voxels in
            main memory, which is then streamed.
        stream_axis: the spatial axis whose length must not matter for the memory; ``None``: that which needs least.
        cancel: asked after every step; if it says yes, the call ends with a ``CancelledError``.

    Attributes:
        report: an :class:`~medresnet3d.inferers.InferenceReport` of the last call; ``None`` before the first.

    Raises:
        ConfigError: for an option that does not exist.

    Example:
        >>> inferer = SlidingWindowInferer((8, 8), overlap=0.5, mode="gaussian", output="labels")
        >>> inferer(torch.ones(1, 1, 20, 12), lambda window: torch.cat([0 * window, window], dim=1)).unique()
        tensor([1], dtype=torch.uint8)
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int,
        sw_batch_size: int = 1,
        overlap: Sequence[float] | float = 0.25,
        mode: BlendMode | str = "constant",
        sigma_scale: Sequence[float] | float = 0.125,
        padding_mode: PytorchPadMode | str = "constant",
        cval: float = 0.0,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        progress: bool = False,
        cache_roi_weight_map: bool = False,
        cpu_thresh: int | None = None,
        buffer_steps: int | None = None,
        buffer_dim: int = -1,
        with_coord: bool = False,
        *,
        strategy: str = "auto",
        output: str = "logits",
        skip_empty: bool = False,
        crop_foreground: bool = False,
        margin: int = 8,
        background: float | None = None,
        empty_answer: int | None = 0,
        flips: Sequence[int] = (),
        turns: Sequence[int] | None = None,
        precision: str = "auto",
        fold: bool = True,
        backend: str = "torch",
        memory: int | None = None,
        stream_axis: int | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        self.roi_size = roi_size
        self.sw_batch_size = sw_batch_size
        self.overlap = overlap
        self.mode = _choice("mode", mode, [item.value for item in BlendMode])
        self.sigma_scale = sigma_scale
        self.padding_mode = _choice("padding_mode", padding_mode, ("constant", "reflect", "replicate", "circular"))
        self.cval = cval
        self.sw_device = sw_device
        self.device = device
        self.progress = progress
        self.cpu_thresh = cpu_thresh
        self.with_coord = with_coord
        self.strategy = _choice("strategy", strategy, STRATEGIES)
        self.output = _choice("output", output, OUTPUTS)
        self.skip_empty = skip_empty
        self.crop_foreground = crop_foreground
        self.margin = margin
        self.background = background
        self.empty_answer = empty_answer
        self.flips = tuple(flips)
        self.turns = None if turns is None else tuple(turns)
        self.views = Views(flips, turns)
        self.precision = precision
        self.fold = fold
        self.backend = backend
        self.memory = memory
        self.stream_axis = stream_axis
        self.cancel = cancel
        self.report: InferenceReport | None = None

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Give the network's output for a whole image.

        Args:
            inputs: (B, C, ...) with 2 or 3 spatial axes, of any real number type.
            network: a module or function.
            args: further arguments of the network.
            kwargs: further named arguments of the network. ``condition``, (B, C, ...) of the image's size, is cut into
                the same windows; ``device`` stands for this call in the place of the inferer's own.

        Returns:
            (B, K, ...) float32 or, for labels, (B, 1, ...) of the smallest integer type; in the network's own structure
            where it has several outputs; a ``MetaTensor`` where ``inputs`` is one.

        Raises:
            ConfigError: if an option does not fit the image or the network.
            CancelledError: if ``cancel`` says so.
        """
        began = time.perf_counter()
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        self._check_axes(image.dim() - 2)
        device = torch.device(kwargs.pop("device", None) or self._output_device(image))
        runner = self._runner(network, image, args, kwargs)
        foreground = self._foreground(image)
        layout = choose_layout(
            tuple(image.shape[2:]),
            image.shape[1],
            network,
            runner,
            LayoutOptions(self.strategy, self.roi_size, self.overlap, self.margin, self.memory, self.stream_axis),
            foreground if self.crop_foreground else None,
        )
        kept = layout.kept(foreground) if foreground is not None and self.skip_empty else None
        left_out = 1 - layout.covered(kept) / image[0, 0].numel()
        target = Target(
            self.output,
            layout.image_size,
            tuple(start for start, _ in layout.box),
            device,
            inputs.dtype if self.strategy == "exact" and inputs.is_floating_point() else torch.float32,
            self.empty_answer,
            partial=left_out > 0,
        )
        with reused_memory() if runner.device.type == "cpu" else nullcontext():
            outputs, rebuild, passes = self._pass_over(image, layout, runner, target, kept)
        run = layout.total if kept is None else len(kept)
        self.report = InferenceReport(
            strategy=layout.strategy,
            reason=layout.reason,
            precision=runner.precision,
            backend=runner.backend,
            windows_total=layout.total * len(image),
            windows_run=run * len(image),
            left_out=left_out,
            crop=layout.box if layout.cropped else None,
            halo=layout.plan.halo if isinstance(layout.plan, TilePlan) else None,
            flips=self.flips,
            views=self.views.count,
            kept_bytes=max(one.peak_bytes for one in passes),
            seconds=time.perf_counter() - began,
            notes=tuple(
                dict.fromkeys(
                    [
                        *self._foreground_notes(foreground),
                        *(note for one in passes for note in one.notes),
                        *runner.fallbacks,
                    ]
                )
            ),
        )
        return rebuild([_like(output, inputs) for output in outputs])

    def _check_axes(self, dims: int) -> None:
        named = {"flips": self.flips, "turns": self.turns or (), "stream_axis": (self.stream_axis or 0,)}
        for name, axes in named.items():
            if any(not 0 <= axis < dims for axis in axes):
                raise ConfigError(f"{name} is {list(axes)}, but the image's spatial axes are 0 to {dims - 1}.")

    def _output_device(self, image: torch.Tensor) -> torch.device | str:
        if self.device is None and self.cpu_thresh is not None and image[0, 0].numel() > self.cpu_thresh:
            return "cpu"
        return self.device or image.device

    def _runner(
        self, network: Callable[..., Any], image: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Runner:
        condition = kwargs.pop("condition", None)
        if condition is not None and condition.shape != image.shape:
            raise ConfigError(
                f"condition has the shape {tuple(condition.shape)}, but it must be that of the image, "
                f"{tuple(image.shape)}."
            )
        unused = ("buffer_steps", "buffer_dim")
        named = {name: value for name, value in kwargs.items() if name not in unused}
        return Runner(
            network,
            torch.device(self.sw_device or home(network, image)),
            precision=self.precision,
            fold=self.fold,
            backend=self.backend,
            exact=self.strategy == "exact",
            views=self.views,
            extras=Extras(args, named, condition, self.with_coord),
        )

    def _foreground(self, image: torch.Tensor) -> Foreground | None:
        if self.strategy == "exact" or not (self.skip_empty or self.crop_foreground):
            return None
        return find_foreground(image, self.background)

    def _foreground_notes(self, foreground: Foreground | None) -> list[str]:
        wanted = self.strategy != "exact" and (self.skip_empty or self.crop_foreground)
        return ["no background was found, so nothing was left out"] if wanted and foreground is None else []

    def _pass_over(
        self, image: torch.Tensor, layout: Layout, runner: Runner, target: Target, kept: set[Any] | None
    ) -> tuple[list[torch.Tensor], Callable[[Sequence[Any]], Any], list[WindowPass | TilePass | SlabPass]]:
        """Compute each image of the batch; return the outputs, what puts them into their structure, and the passes."""
        lazily = isinstance(layout.plan, SlabPlan) and self.padding_mode == "constant"
        padding = [(0, 0)] * (image.dim() - 2) if lazily else layout.plan.padding
        padded = pad_image(_cut(image, layout.box), padding, self.padding_mode, self.cval)
        if runner.extras.condition is not None:
            box_condition = _cut(runner.extras.condition, layout.box)
            runner.extras.condition = pad_image(box_condition, padding, self.padding_mode, self.cval)
        results, passes = [], []
        with self._progress(layout.total * len(image)) as bar:
            for number, case in enumerate(padded.split(1)):
                one = self._one_pass(layout, runner, target, number, lambda windows: self._step(bar, windows))
                outputs, rebuild = one.run(case, kept)
                results.append(outputs)
                passes.append(one)
        merged = [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*results, strict=True)]
        return merged, rebuild, passes

    def _one_pass(
        self, layout: Layout, runner: Runner, target: Target, number: int, tick: Callable[[int], None]
    ) -> WindowPass | TilePass | SlabPass:
        def forward(windows: torch.Tensor, boxes: Sequence[tuple[slice, ...]]) -> Any:
            return runner.forward(windows, boxes, number)

        if isinstance(layout.plan, SlabPlan):
            return SlabPass(layout.plan, target, runner.reordered(layout.plan.order), self.cval, tick)
        if isinstance(layout.plan, TilePlan):
            return TilePass(layout.plan, target, forward, runner.device, layout.splittable, tick)
        weights = None if self.mode == "constant" else importance(layout.plan.roi_size, self.mode, self.sigma_scale)
        return WindowPass(layout.plan, weights, target, forward, runner.device, self.sw_batch_size, tick)

    def _progress(self, total: int) -> AbstractContextManager[Progress | None]:
        return Progress("windows", total) if self.progress else nullcontext()

    def _step(self, bar: Progress | None, windows: int) -> None:
        if self.cancel is not None and self.cancel():
            raise CancelledError("the inference was cancelled before it was finished.")
        if bar is not None:
            bar.advance(windows)


def _choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return an option's value as text, if there is such a choice."""
    text = str(getattr(value, "value", value))
    if text not in choices:
        raise ConfigError(f'{name} is "{text}"; use one of {", ".join(choices)}.')
    return text


def _cut(image: torch.Tensor, box: Box) -> torch.Tensor:
    return image[(slice(None), slice(None), *(slice(*edge) for edge in box))]


def _like(output: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Return the output as the same class of tensor as the input, with its meta data."""
    if not isinstance(inputs, MetaTensor):
        return output
    return convert_to_dst_type(output, inputs, dtype=output.dtype, device=output.device)[0]
