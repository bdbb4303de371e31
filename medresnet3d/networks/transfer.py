"""Where a training starts from: published weights, those of another training, or chance; and what stays frozen."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.networks.pretrained import is_url, load_pretrained
from medresnet3d.networks.staged_network import StagedNetwork
from medresnet3d.networks.trunks import trunks_of
from medresnet3d.weights.cards import is_card
from medresnet3d.weights.trained import find_trained

logger = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)
Weights = str | os.PathLike[str]


def freeze_depths(network: nn.Module) -> dict[str, str]:
    """The values of ``freeze_until`` for a network or a trunk, each with the pattern of the names that are frozen then.

    ``none``, ``stem``, ``stage1`` and so on: that stage and all before it; ``all_but_head``: everything but the last
    layer (and auxiliary ones).

    Raises:
        ConfigError: if the network has no stages.
    """
    stages = network.stage_patterns() if isinstance(network, StagedNetwork) else ()
    if not stages:
        raise ConfigError(f"{type(network).__name__} has no stages that could be frozen; set freeze_until=none.")
    names = ("stem", *(f"stage{number}" for number in range(1, len(stages))))
    depths = {name: "|".join(f"(?:{stage})" for stage in stages[: index + 1]) for index, name in enumerate(names)}
    return {"none": "", **depths, "all_but_head": r"(?!(classifier|auxiliary|dropout)\b)"}


def start_from(
    network: Network,
    pretrained: Weights | Sequence[Weights | None] | None = None,
    freeze_until: str = "none",
    inflation: str = "mean",
    class_names: Sequence[str] | None = None,
) -> Network:
    """Give a new network the weights that its training starts from, and freeze its first stages.

    This is what the ids ``pretrained`` and ``freeze_until`` of a bundle's ``train.json`` do. Nothing is downloaded
    here: ``medresnet3d weights fetch NAME`` brings published weights to this computer first.

    Args:
        network: of :func:`medresnet3d.networks.classifier.build_classifier`, or made of such (several views, slices
            that vote, a regressor, a support vector machine behind it); it is changed in place.
        pretrained: ``None``: it stays as it is; a name of ``medresnet3d weights list``; a local file of plain tensors;
            or a run folder or bundle that was trained before. For an ensemble of different networks a list, one for
            each of them.
        freeze_until: see :func:`freeze_depths`. Frozen layers keep their weights, and the running statistics of their
            normalisation stand still.
        inflation: how 2D kernels become 3D, see :func:`medresnet3d.networks.fitting.inflate`.
        class_names: of the network. The last layers of an earlier training stay at their random start where it had
            other classes or another order of them, even as many; without names they do so where the numbers differ.

    Returns:
        the same network.

    Raises:
        ConfigError: if ``freeze_until`` is no depth of the network; the message lists them. Also for an address, and
            for a list of another length.
        WeightsError: if the weights are not here or do not fit.
    """
    trunks = trunks_of(network)
    if pretrained is None or isinstance(pretrained, (str, os.PathLike)):
        _load(network, pretrained, inflation, class_names)
    elif len(pretrained) != len(trunks):
        raise ConfigError(
            f"pretrained lists {len(pretrained)} weights, but the network is made of {len(trunks)}; give one for each."
        )
    else:
        for trunk, weights in zip(trunks.values(), pretrained, strict=True):
            _load(trunk, weights, inflation, class_names)
    if freeze_until != "none":
        for trunk in trunks.values():
            depths = freeze_depths(trunk)
            require_name("Depth freeze_until", freeze_until, depths)
            trunk.freeze(depths[freeze_until])  # type: ignore[operator]  # freeze_depths has told that it is there
    for parameter in network.parameters():
        if parameter.ndim == 4:  # kernels of a plane: a step on a CPU then takes about two thirds of the time
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def _load(network: nn.Module, weights: Weights | None, inflation: str, class_names: Sequence[str] | None) -> None:
    if weights is None:
        return
    if is_url(str(weights)):
        raise ConfigError(
            f"pretrained is the address {weights}; download the file and give its path, or give a name of "
            "`medresnet3d weights list`."
        )
    if is_card(str(weights)):
        load_pretrained(network, weights, inflation=inflation)
        return
    trained = find_trained(weights)
    is_other = None not in (trained.classes, class_names) and list(trained.classes or ()) != list(class_names or ())
    if is_other:
        logger.info(
            "%s was trained for the classes %s; what belongs to classes starts at random.",
            weights,
            ", ".join(trained.classes or ()),
        )
    load_pretrained(network, trained.file, inflation=inflation, heads=not is_other)
