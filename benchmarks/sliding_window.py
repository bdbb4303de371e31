"""Sliding-window inference beside MONAI's, at equal answers: time, memory and agreement.

Each row is one command; every arm of a row runs in the same process, in turn, ``--repeats`` times, and the
median of each counts. What has been measured is kept under ``--out``: an interrupted row goes on where it was, and
``--repeats`` may be raised afterwards. On a busy machine take ``--clock cpu --threads 1``. The networks are trained
first by ``sliding_window_nets.py``.

    python benchmarks/sliding_window.py --work mri-voxresnet --nets NETS --data MANIFEST --out RESULTS
    python benchmarks/sliding_window.py --work mri-unet --nets NETS --data MANIFEST --out RESULTS
    python benchmarks/sliding_window.py --work mri-default --nets NETS --data MANIFEST --out RESULTS
    python benchmarks/sliding_window.py --work ct --nets NETS --out RESULTS
    python benchmarks/sliding_window.py --work ct-memory --nets NETS --out RESULTS

``--device cuda`` measures on a GPU, from a volume in main memory to a label map there; the network is there already.
``--shape`` makes the volume smaller, for a first try; without ``--data`` the MRI is a phantom. ``ct-memory --narrow``
needs no trained network: a cheap one of an eighth of the channels takes its place.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from journal import Journal, in_turn, medians, timed
from monai.inferers import SlidingWindowInferer as MonaiInferer
from monai.networks.nets import UNet
from monai.transforms import CropForeground
from sliding_window_nets import (
    CHANNELS,
    CT_SPACING,
    MRI_SHAPE,
    fit_shape,
    load_network,
    mri_scans,
    normalised_ct,
)
from torch import nn

from medresnet3d.data.phantoms.organs import ORGANS, organ_phantom
from medresnet3d.inferers import SlidingWindowInferer
from medresnet3d.io.atomic import atomic_write_text

ROI = (96, 96, 96)
OURS = "medresnet3d"
CT_SHAPE = (512, 512, 256)
GOALS = {
    "mri-voxresnet": {"MONAI fp32": 4.0, "MONAI autocast bf16": 1.6},
    "mri-unet": {"MONAI fp32": 4.0, "MONAI autocast bf16": 1.6},
    "mri-default": {"MONAI fp32": 13.0, "MONAI CropForeground + autocast bf16": 2.5},
    "ct": {"MONAI fp32": 15.0},
}
MEMORY_SLICES = (128, 256, 512, 1024)
REPEATED_SLICES = 128
MONAI_SLICES = 256  # beyond, MONAI needs more memory than a desktop has
Arm = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Case:
    """One scan to segment.

    Attributes:
        image: (1, 1, i, j, k), float32, normalised.
        truth: labels (i, j, k).
        overlap: of the windows.
    """

    image: torch.Tensor
    truth: torch.Tensor
    overlap: float


def mri_case(manifest: Path | None, shape: tuple[int, ...]) -> Case:
    """A skull-stripped scan that was kept out of the training, in the middle of a volume of ``shape``."""
    image, truth = mri_scans(manifest, test=True)[0]
    return Case(
        torch.from_numpy(fit_shape(image, shape))[None, None], torch.from_numpy(fit_shape(truth, shape)), overlap=0.5
    )


def ct_case(shape: tuple[int, ...]) -> Case:
    """A phantom patient that was not trained on."""
    phantom = organ_phantom(7, shape, CT_SPACING)
    return Case(torch.from_numpy(normalised_ct(phantom.image))[None, None], torch.from_numpy(phantom.labels), 0.25)


def monai_arm(
    network: nn.Module, overlap: float, options: argparse.Namespace, autocast: bool = False, crop: bool = False
) -> Arm:
    """MONAI's sliding window and the argmax of its output, as a careful user writes it; on a GPU, all of it there."""
    inferer, device = MonaiInferer(ROI, options.windows, overlap, mode="gaussian"), options.device
    foreground = CropForeground(margin=8, allow_smaller=True)

    def run(image: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=autocast):
            if not crop:
                return torch.as_tensor(inferer(image.to(device), network)).argmax(1)[0].cpu()
            low, high = foreground.compute_bounding_box(image[0])
            box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
            labels = torch.zeros(image.shape[2:], dtype=torch.int64)
            part = image[(slice(None), slice(None), *box)].to(device)
            labels[box] = torch.as_tensor(inferer(part, network)).argmax(1)[0].cpu()
            return labels

    return run


def our_arm(network: nn.Module, overlap: float, windows: int, **settings: Any) -> tuple[Arm, SlidingWindowInferer]:
    """Our sliding window with label output."""
    inferer = SlidingWindowInferer(ROI, windows, overlap, mode="gaussian", output="labels", **settings)
    return (lambda image: torch.as_tensor(inferer(image, network))[0, 0]), inferer


def our_settings(work: str, options: argparse.Namespace) -> dict[str, Any]:
    """MONAI's windows for a row of the same windows; for the others what ``medresnet3d infer`` chooses."""
    same_windows = work in ("mri-voxresnet", "mri-unet")
    strategy = "windows" if same_windows else "auto"
    settings = {"strategy": options.strategy or strategy, "skip_empty": not same_windows}
    chosen = {"backend": options.backend} if options.backend else {}
    if options.device == "cuda":
        chosen |= {"sw_device": "cuda", "device": "cpu"}
    return {**settings, "crop_foreground": not same_windows, **chosen}


def agreement(labels: torch.Tensor, reference: torch.Tensor, where: torch.Tensor) -> float:
    """Share of the voxels of a mask with the same label."""
    return float((labels[where] == reference[where]).double().mean())


def mean_dice(labels: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean Dice coefficient of the classes in ``truth``, background aside."""
    scores = []
    for label in [int(value) for value in truth.unique() if value > 0]:
        a, b = labels == label, truth == label
        scores.append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
    return float(np.mean(scores))


def compare(work: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time every arm of one row, in turn, and compare their answers with MONAI's in fp32."""
    case = (
        ct_case(tuple(options.shape or CT_SHAPE))
        if work == "ct"
        else mri_case(options.data, tuple(options.shape or MRI_SHAPE))
    )
    nets = {"ct": "ct-unet", "mri-default": options.network}
    network = load_network(options.nets, nets.get(work, work)).to(options.device)
    ours, inferer = our_arm(network, case.overlap, options.windows, **our_settings(work, options))
    arms: dict[str, Arm] = {"MONAI fp32": monai_arm(network, case.overlap, options)}
    if work == "mri-default":
        arms["MONAI CropForeground + autocast bf16"] = monai_arm(network, case.overlap, options, True, True)
    else:
        arms["MONAI autocast bf16"] = monai_arm(network, case.overlap, options, autocast=True)
    arms[OURS] = ours
    journal = journal_of(work, case, options)
    times: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    for name, number in in_turn(list(arms), options.repeats):
        times[name].append(journal.once(f"{name} {number}", lambda name=name: measure(name, arms[name], case, journal)))
        print(f"{work}: {name} {times[name][-1][options.clock]:.2f} s", flush=True)
    if inferer.report is not None:
        journal.once("report", lambda: inferer.report.as_dict())
    answers = {name: torch.from_numpy(journal.kept(name)) for name in arms}
    row = _row(work, case, times, answers, journal.once("report", dict), options.clock)
    return row | ({} if options.device == "cpu" else {"goals": {}})  # which are for two cores


def journal_of(work: str, case: Case, options: argparse.Namespace) -> Journal:
    """The journal of a row: other options, another folder."""
    size = "x".join(str(length) for length in case.truth.shape)
    what = [work, size, f"{options.threads}t", options.device, options.network, options.strategy, options.backend]
    return Journal(options.out / "parts" / "-".join(str(part) for part in what if part))


def measure(name: str, arm: Arm, case: Case, journal: Journal) -> dict[str, float]:
    """Time one call, after small ones that load whatever the first call loads; keep the answer."""
    arm(case.image[..., :96, :96, :96].contiguous())
    if name == OURS:  # which prepares the network anew for the strategy that suits the image's size
        arm(case.image[..., :96].contiguous())
    seconds, labels = timed(lambda: arm(case.image))
    journal.keep(name, labels.numpy().astype(np.uint8))
    return seconds


def _row(
    work: str,
    case: Case,
    times: dict[str, list[dict[str, float]]],
    answers: dict[str, torch.Tensor],
    report: dict[str, Any],
    clock: str,
) -> dict[str, Any]:
    reference, inside = answers["MONAI fp32"], case.truth > 0
    typical = medians(times, clock)
    return {
        "work": work,
        "shape": list(case.truth.shape),
        "clock": clock,
        "times": times,
        "seconds": {name: round(value, 3) for name, value in typical.items()},
        "times_faster": {name: round(typical[name] / typical[OURS], 2) for name in typical if name != OURS},
        "goals": GOALS[work],
        "agreement_in_organs": {
            name: round(agreement(answer, reference, inside), 6) for name, answer in answers.items()
        },
        "agreement": {
            name: round(agreement(answer, reference, inside | ~inside), 6) for name, answer in answers.items()
        },
        "dice": {name: round(mean_dice(answer, case.truth), 5) for name, answer in answers.items()},
        "report": report,
    }


def narrow_network() -> nn.Module:
    """The network of the row with an eighth of its channels and random weights.

    As many classes and windows, the same context and nearly the same memory (most of it goes into the 14 classes at
    full resolution), in a fraction of the time. Its answers mean nothing.
    """
    torch.manual_seed(0)
    channels = [count // 8 for count in CHANNELS]
    return UNet(3, 1, len(ORGANS), channels, (2, 2, 2), num_res_units=2, norm="batch").eval()


def memory_case(shape: tuple[int, ...]) -> Case:
    """A volume of ``shape``, the slices of one phantom patient over and over."""
    case = ct_case((*shape[:2], min(shape[2], REPEATED_SLICES)))
    times = (1, 1, 1, 1, -(-shape[2] // REPEATED_SLICES))
    image = case.image.repeat(times)[..., : shape[2]].contiguous()
    return Case(image, case.truth[..., :0], case.overlap)


def memory_child(options: argparse.Namespace) -> None:
    """Print how much memory one run takes above the loaded volume and network, in MiB.

    The most at any time, as the system counts it, what the libraries take at their first use included.
    """
    torch.set_num_threads(options.threads)
    case = memory_case((*(options.shape or CT_SHAPE)[:2], options.slices))
    network = narrow_network() if options.narrow else load_network(options.nets, "ct-unet")
    arm, inferer = (
        (monai_arm(network, case.overlap, options), None)
        if options.arm == "MONAI fp32"
        else our_arm(network, case.overlap, options.windows, **our_settings("ct-memory", options))
    )
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else what making the phantom left free would not count as taken again
    Path("/proc/self/clear_refs").write_text("5")
    before, begin = _status("VmRSS"), time.perf_counter()
    labels = arm(case.image)
    used = _status("VmHWM") - before
    answer = labels.numel() * labels.element_size() / 2**20
    seconds = round(time.perf_counter() - begin, 1)
    how = str(inferer.report) if inferer else "MONAI"
    print(json.dumps({"mib": round(used), "answer_mib": round(answer), "seconds": seconds, "report": how}))


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def child(command: list[str]) -> dict[str, Any]:
    """Run a process and read the last line that it prints."""
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(output.splitlines()[-1]))


def memory_row(options: argparse.Namespace) -> dict[str, Any]:
    """Measure each arm and each number of slices in a process of its own."""
    plane = "x".join(str(length) for length in (options.shape or CT_SHAPE)[:2])
    width = "narrow" if options.narrow else "full"
    journal = Journal(options.out / "parts" / f"ct-memory-{plane}-{width}-{options.threads}t")
    found: dict[str, dict[str, Any]] = {"MONAI fp32": {}, OURS: {}}
    for slices in options.memory_slices:
        for arm in found:
            if arm == OURS or slices <= MONAI_SLICES:
                command = [sys.executable, __file__, *sys.argv[1:], "--arm", arm, "--slices", str(slices)]
                found[arm][str(slices)] = journal.once(f"{arm} {slices}", lambda command=command: child(command))
                print(f"{arm}, {slices} slices: {found[arm][str(slices)]}", flush=True)
    peers, ours = found["MONAI fp32"], found[OURS]
    less = {slices: round(peer["mib"] / ours[slices]["mib"], 2) for slices, peer in peers.items()}
    network = "an eighth of the channels, untrained" if options.narrow else "ct-unet"
    goals = {str(MONAI_SLICES): 5.0}
    return {
        "work": "ct-memory",
        "plane": plane,
        "network": network,
        "memory": found,
        "times_less": less,
        "goals": goals,
    }


def table(row: dict[str, Any]) -> str:
    """The row as a Markdown table."""
    if row["work"] == "ct-memory":
        return _memory_table(row)
    unit = "seconds" if row["clock"] == "wall" else "CPU seconds"
    lines = [f"| arm | {unit} | ours is faster | goal | same label in organs | Dice |", "|---|---|---|---|---|---|"]
    for name, seconds in row["seconds"].items():
        faster = row["times_faster"].get(name)
        goal = row["goals"].get(name)
        ratio, wanted = f"{faster:.2f}x" if faster else "", f">= {goal:g}x" if goal else ""
        lines.append(
            f"| {name} | {seconds:.2f} | {ratio} | {wanted} "
            f"| {row['agreement_in_organs'][name]:.5f} | {row['dice'][name]:.4f} |"
        )
    return "\n".join(lines)


def _memory_table(row: dict[str, Any]) -> str:
    """By the number of slices; of each figure, the label map (int64 of MONAI's argmax, uint8 of ours) is a part."""
    lines = [
        "| slices | MONAI fp32 (label map) | medresnet3d (label map) | times less | goal |",
        "|---|---|---|---|---|",
    ]
    for slices, ours in row["memory"][OURS].items():
        peer = row["memory"]["MONAI fp32"].get(slices)
        theirs = f"{peer['mib']} MiB ({peer['answer_mib']})" if peer else "not run"
        less, goal = row["times_less"].get(slices, ""), row["goals"].get(slices)
        wanted = f">= {goal:g}" if goal else ""
        lines.append(f"| {slices} | {theirs} | {ours['mib']} MiB ({ours['answer_mib']}) | {less} | {wanted} |")
    return "\n".join(lines)


def main() -> None:
    """Run one row and write it as JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", choices=[*GOALS, "ct-memory"], required=True)
    parser.add_argument("--nets", type=Path, help="folder of sliding_window_nets.py")
    parser.add_argument("--data", type=Path, help="manifest of skull-stripped T1 scans with tissue maps")
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures and what was measured so far")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what the ratios are of")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--windows", type=int, default=1, help="at once, of every arm")
    parser.add_argument("--shape", type=int, nargs=3, help="another size of the volume")
    parser.add_argument("--backend", choices=("torch", "openvino"), help="of our arm")
    parser.add_argument(
        "--network", choices=("mri-voxresnet", "mri-unet"), default="mri-voxresnet", help="of mri-default"
    )
    parser.add_argument("--strategy", choices=("auto", "windows", "halo", "slabs", "whole"), help="of our arm")
    parser.add_argument("--memory-slices", type=int, nargs="+", default=MEMORY_SLICES)
    parser.add_argument("--narrow", action="store_true", help="ct-memory with a cheap untrained network")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--slices", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.nets is None and not options.narrow:
        parser.error("--nets is missing: the folder of the networks that sliding_window_nets.py trains")
    if options.arm:
        memory_child(options)
        return
    torch.set_num_threads(options.threads)
    row = memory_row(options) if options.work == "ct-memory" else compare(options.work, options)
    row["machine"] = {"cpu": platform.processor() or platform.machine(), "threads": options.threads}
    if options.device == "cuda":
        row["machine"]["gpu"] = torch.cuda.get_device_name()
    row |= {"date": time.strftime("%Y-%m-%d"), "repeats": options.repeats}
    row["versions"] = {"torch": str(torch.__version__), "monai": monai.__version__}
    print(json.dumps(row, indent=1), table(row), sep="\n\n")
    name = options.work if options.work != "mri-default" else f"mri-default-{options.network}"
    atomic_write_text(options.out / f"sliding_window_{name}.json", json.dumps(row, indent=1))
    atomic_write_text(options.out / f"sliding_window_{name}.md", table(row) + "\n")


if __name__ == "__main__":
    main()
