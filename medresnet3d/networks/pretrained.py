"""Published weights for the networks of this package: ImageNet's of torchvision and timm, and MedicalNet's."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from medresnet3d.errors import ConfigError, WeightsError
from medresnet3d.networks.classifier_base import ClassifierBase
from medresnet3d.networks.fitting import first_kernel, fit_tensor
from medresnet3d.networks.trunks import trunks_of
from medresnet3d.weights.cards import find_card, is_card
from medresnet3d.weights.store import file_sha256, require_stored
from medresnet3d.weights.tensors import read_tensors

logger = logging.getLogger(__name__)

HEADS = r"(classifier|auxiliary)\."
"""Names of the layers that belong to the classes: they may be missing, left over or of another shape."""


@dataclass
class LoadReport:
    """What :func:`load_pretrained` did; names are those of the network.

    Attributes:
        source: name of the weights, or their file.
        loaded: tensors that were filled.
        inflated: those of them whose 2D kernel was spread over a third axis.
        reshaped: those of them whose shape was changed another way: the first layer for other channels, a hidden layer
            after a smaller pooled map.
        left: tensors of the last (or an auxiliary) layer that stay at their random start, since the classes differ or
            the weights have none; also what joins several networks, what is fitted after a training, and parts that no
            published weights have (attention, a stem of its own).
        missing: other tensors of the network that the weights do not have.
        unexpected: names in the file that the network does not have.
        misfits: names with both shapes, where no rule applies.
    """

    source: str
    loaded: list[str] = field(default_factory=list)
    inflated: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line for the log."""
        counts = [
            f"{len(names)} {what}{_examples(names) if what != 'inflated' else ''}"
            for what, names in (
                ("inflated", self.inflated),
                ("reshaped", self.reshaped),
                ("at their random start", self.left),
                ("missing", self.missing),
                ("not used", self.unexpected),
                ("of another shape", self.misfits),
            )
            if names
        ]
        return f"{self.source}: {', '.join([f'{len(self.loaded)} tensors loaded', *counts])}"


@runtime_checkable
class HasPretrainedPart(Protocol):
    """A network of which a part may be trained, and published, by itself."""

    def pretrained_part(self, names: Iterable[str]) -> nn.Module:
        """The module that weights of these names are for: a part, or the network itself."""


def load_pretrained(
    network: nn.Module,
    name_or_path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    inflation: str = "mean",
    inflate_axis: int = -1,
    strict: bool = True,
    heads: bool = True,
) -> LoadReport:
    """Load published weights, or those of another training, into a network of this package.

    Names are mapped by the network's ``published_names``; the prefix ``module.`` of a distributed training is dropped.
    Where the network is made of others (:func:`~medresnet3d.networks.trunks.trunks_of`), the weights of one go into
    each of them, and what joins them starts at random; weights of the whole are those of an earlier training and go
    where their names say, without what is fitted after a training (a support vector machine, the correction of a bias).
    For a 3D network 2D kernels are inflated; if the image has another number of channels, the kernels of the first
    layer are summed over theirs and shared equally among the new. A last layer with another number of classes stays at
    its random start. For an AlexNet or VGG with a smaller pooled map the first hidden layer's weights are summed over
    the places that are now one, which is exact where the map is constant. A network with ``norm="batch_renorm"`` takes
    the statistics of the published batch normalisation. Slopes of PReLU, which no published network has, stay as they
    are.

    Args:
        network: of :func:`medresnet3d.networks.classifier.build_classifier`, at the published width, or made of such.
        name_or_path: a name of ``medresnet3d weights list`` (fetched before), a local file (plain tensors;
            ``.safetensors`` or what ``torch.save`` wrote), or a URL, which is downloaded once into torch's hub folder.
        sha256: the file's SHA-256; required for a URL.
        inflation: ``"mean"`` or ``"centre"``, see :func:`medresnet3d.networks.fitting.inflate`.
        inflate_axis: see :func:`medresnet3d.networks.fitting.inflate`.
        strict: refuse weights that leave anything but a last layer unfilled or have anything else besides; without,
            load what fits.
        heads: load the layers that belong to the classes too, where they fit; without, they stay at their random start.

    Returns:
        what was loaded, changed and left alone.

    Raises:
        ConfigError: if ``inflation`` is neither.
        WeightsError: if the file is missing, is not the expected one, holds more than tensors or does not fit; the
            network is as it was then.
    """
    path, published = read_pretrained(name_or_path, sha256)
    if isinstance(network, HasPretrainedPart):
        network = network.pretrained_part(published)
    trunks = trunks_of(network)
    target = network.state_dict()
    report = LoadReport(str(name_or_path))
    new: dict[str, Tensor] = {}
    firsts = {prefix + first_kernel(trunk.state_dict()) for prefix, trunk in trunks.items()}
    for name, tensor in _renamed(trunks, published, target):
        if name not in target:
            report.unexpected.append(name)
        elif _stays_at_its_start(network, trunks, name, tensor, target[name], heads):
            report.left.append(name)
        else:
            first = name if name in firsts else ""
            fitted = fit_tensor(name, tensor, target[name].shape, first, inflation, inflate_axis)
            if fitted is None:
                report.misfits.append(f"{name} {tuple(tensor.shape)} for {tuple(target[name].shape)}")
            else:
                new[name] = fitted
                _note_change(report, name, tensor, fitted, is_first=name in firsts)
    report.loaded = list(new)
    seen = {*new, *report.left, *(misfit.partition(" ")[0] for misfit in report.misfits)}
    _sort_missing(report, network, trunks, [name for name in target if name not in seen])
    if strict:
        _refuse(report, network, trunks, path)
    network.load_state_dict(new, strict=False)
    logger.info("%s", report)
    return report


def _note_change(report: LoadReport, name: str, before: Tensor, after: Tensor, is_first: bool) -> None:
    if after.ndim > before.ndim:
        report.inflated.append(name)
    other_channels = is_first and after.shape[1] != before.shape[1]
    if other_channels or (after.ndim == before.ndim and after.shape != before.shape):
        report.reshaped.append(name)


def read_pretrained(name_or_path: str | os.PathLike[str], sha256: str | None = None) -> tuple[Path, dict[str, Tensor]]:
    """The file of weights and its tensors under their published names; see :func:`load_pretrained`.

    The last layer's row of a background class, which some files have, is left out.
    """
    name = str(name_or_path)
    if is_card(name):
        card = find_card(name)
        path = require_stored(card)
        tensors = read_tensors(path)
        if card.first_class:
            rows = (card.num_classes,)
            tensors = {key: t[card.first_class :] if t.shape[:1] == rows else t for key, t in tensors.items()}
        return path, tensors
    path = _local_file(name, sha256)
    return path, read_tensors(path)


Trunks = Mapping[str, nn.Module]


def _renamed(
    trunks: Trunks, published: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> Iterable[tuple[str, Tensor]]:
    """Tensors under the network's names: a file of one trunk goes into each, one of the whole network where it says."""
    plain = {name.removeprefix("module."): tensor for name, tensor in published.items()}
    is_whole = any(name.startswith(prefix) for name in plain for prefix in trunks if prefix)
    for name, tensor in plain.items():
        if is_whole and _trunk_of(name, trunks) is None:
            yield name, tensor
            continue
        for prefix, trunk in trunks.items():
            if is_whole and not name.startswith(prefix):
                continue
            own = our_name(trunk, name.removeprefix(prefix) if is_whole else name)
            yield _for_batch_renorm(trunk, prefix + own, tensor, target)


def _trunk_of(name: str, trunks: Trunks) -> str | None:
    """The beginning of a name that says which trunk its tensor belongs to."""
    return next((prefix for prefix in trunks if name.startswith(prefix)), None)


def _belongs_to_classes(name: str, trunks: Trunks) -> bool:
    """Whether a tensor is of a trunk's last layer, or lies outside of all trunks."""
    prefix = _trunk_of(name, trunks)
    return prefix is None or re.match(HEADS, name.removeprefix(prefix)) is not None


def _is_own_part(name: str, trunks: Trunks) -> bool:
    """Whether a tensor is of a part that its trunk has and published weights never have."""
    prefix = _trunk_of(name, trunks)
    if prefix is None:
        return False
    return re.match(getattr(trunks[prefix], "own_parts", "(?!)"), name.removeprefix(prefix)) is not None


def our_name(network: nn.Module, name: str) -> str:
    """What a published name is called in ``network``; a name of its own stays."""
    name = name.removeprefix("module.")
    for pattern, replacement in getattr(network, "published_names", ()):
        name = re.sub(pattern, replacement, name)
    return name


def _for_batch_renorm(
    network: nn.Module, name: str, tensor: Tensor, target: Mapping[str, Tensor]
) -> tuple[str, Tensor]:
    """The running variance as the running deviation that a network with batch renormalisation has in its place."""
    deviation = f"{name.removesuffix('running_var')}running_std"
    if name.endswith("running_var") and name not in target and deviation in target:
        own = network.own_norm if isinstance(network, ClassifierBase) else "batch"
        eps = own[1]["eps"] if isinstance(own, tuple) else 1e-5  # the architecture's, or torch's default
        return deviation, (tensor + eps).sqrt()
    return name, tensor


def _sort_missing(report: LoadReport, network: nn.Module, trunks: Trunks, names: Sequence[str]) -> None:
    """Sort what was not filled into ``left`` and ``missing``; counters and slopes of PReLU are neither."""
    slopes = {
        f"{name}.{own}"
        for name, module in network.named_modules()
        if isinstance(module, nn.PReLU)
        for own, _ in module.named_parameters()
    }
    for name in names:
        if _belongs_to_classes(name, trunks) or _is_own_part(name, trunks):
            report.left.append(name)
        elif not name.endswith("num_batches_tracked") and name not in slopes:
            report.missing.append(name)


def _refuse(report: LoadReport, network: nn.Module, trunks: Trunks, path: Path) -> None:
    """Raise unless everything but the layers of the classes fits."""
    unexpected = [name for name in report.unexpected if not _may_be_left_over(name, trunks)]
    if unexpected or report.missing:
        raise WeightsError(
            f"{path}: does not fit {type(network).__name__}: {len(unexpected)} names unknown to it"
            f"{_examples(unexpected)} and {len(report.missing)} missing{_examples(report.missing)}; "
            f"use the weights of the same architecture{_wanted_arch(report.source)} at its published width."
        )
    if report.misfits:
        raise WeightsError(
            f"{path}: {len(report.misfits)} tensors have another shape than the network's"
            f"{_examples(report.misfits)}; build the network at its published width (size=paper)."
        )


def _stays_at_its_start(
    network: nn.Module, trunks: Trunks, name: str, published: Tensor, own: Tensor, heads: bool
) -> bool:
    """Whether a tensor is one of other classes, or of what is fitted once a training is over."""
    if re.match(getattr(network, "fitted_names", "(?!)"), name):
        return True
    other_classes = not heads or published.shape[:1] != own.shape[:1] or published.ndim > own.ndim
    return other_classes and _belongs_to_classes(name, trunks)


def _may_be_left_over(name: str, trunks: Trunks) -> bool:
    """Whether a name that the network does not have is no matter: a last layer, or another part of a published file."""
    prefix = _trunk_of(name, trunks)
    if prefix is None:
        return True
    pattern = rf"{HEADS}|{getattr(trunks[prefix], 'passed_over', HEADS)}"
    return re.match(pattern, name.removeprefix(prefix)) is not None


def _wanted_arch(source: str) -> str:
    return f" (arch={find_card(source).arch})" if is_card(source) else ""


def _examples(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""


def _local_file(path_or_url: str, sha256: str | None) -> Path:
    if is_url(path_or_url):
        return _download(path_or_url, sha256)
    path = Path(path_or_url)
    if not path.is_file():
        raise WeightsError(
            f"{path}: there is no such weights file, nor published weights of that name{_nearest(path_or_url)}"
        )
    if sha256 is not None and (found := file_sha256(path)) != sha256.lower():
        raise WeightsError(f"{path}: its SHA-256 is {found}, expected {sha256}; download the file again.")
    return path


def is_url(text: str) -> bool:
    """Whether ``text`` is an address and no path."""
    return urlparse(text).scheme in ("http", "https", "file", "ftp")


def _nearest(name: str) -> str:
    try:
        find_card(name)
    except ConfigError as error:
        return f"; {str(error).partition('; ')[2]}"
    return "."


def _download(url: str, sha256: str | None) -> Path:
    if sha256 is None:
        raise WeightsError(f"{url}: give the SHA-256 of the file, so that it can be checked after the download.")
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{sha256.lower()[:16]}-{Path(urlparse(url).path).name}"
    if path.is_file() and file_sha256(path) == sha256.lower():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256.lower())
    except URLError as error:
        raise WeightsError(
            f"{url}: the download failed ({error.reason}); fetch it by hand and give the file."
        ) from error
    except RuntimeError as error:
        raise WeightsError(f"{url}: the downloaded file is not the expected one ({error}).") from error
    return path
