"""The activations of the field survey by name, in MONAI's ``Act`` factory too.

MONAI has sigmoid, tanh, ReLU, PReLU and ELU. Importing :mod:`medresnet3d.networks` adds ``rrelu`` (the paper's, see
:class:`~medresnet3d.networks.layers.rrelu.PaperRReLU`), ``torch_rrelu`` (torch's), ``softplus`` and
``noisy_softplus``, so that MONAI's own networks take them: ``UNet(..., act="noisy_softplus")``. A name that a later
MONAI has of its own is not touched there; this project's networks always have the layers of this module.
``maxout`` and ``maxout_relu`` change the layers and not only what follows them, so this project's networks alone take
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.networks.layers.factories import Act, split_args
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.networks.layers.noisy_softplus import NoisySoftplus
from medresnet3d.networks.layers.rrelu import PaperRReLU

LayerName = str | Sequence[Any]
"""A name in one of MONAI's factories, or (name, options)."""

ADDED: dict[str, type[nn.Module]] = {
    "rrelu": PaperRReLU,
    "torch_rrelu": nn.RReLU,
    "softplus": nn.Softplus,
    "noisy_softplus": NoisySoftplus,
}
MAXOUT = ("maxout", "maxout_relu")
SURVEY = ("sigmoid", "tanh", "relu", "prelu", "rrelu", "elu", "softplus", "noisy_softplus", "maxout")
"""The nine activations that the survey compares."""
_IN_PLACE = ("relu", "relu6")


def register_activations() -> None:
    """Add this package's activations to MONAI's ``Act`` factory; names that it has stay as they are."""
    for name, layer in ADDED.items():
        if name.upper() not in Act.names:
            Act.add_factory_class(name, layer)


def resolve_activation(act: LayerName) -> tuple[Any, dict[str, Any]]:
    """Name and options of an activation.

    Args:
        act: a name of MONAI's ``Act`` factory (upper or lower case), ``maxout`` or ``maxout_relu``, or (name, options).

    Returns:
        the name in lower case (a class stays a class) and its options.

    Raises:
        ConfigError: for an unknown name, with the list of names and the nearest one, and for a wrong option of maxout.
    """
    name, options = split_args(act if isinstance(act, str) else tuple(act))
    if isinstance(name, str):
        known = {known.lower() for known in Act.names} | {*ADDED, *MAXOUT}
        name = require_name("Activation", name.lower(), sorted(known))
    if name in MAXOUT and set(options) - {"pieces"}:
        raise ConfigError(
            f"Activation {name!r} takes the option 'pieces' and no other; it was given {sorted(options)}."
        )
    return name, dict(options)


def activation(act: LayerName, channels: int | None = None, in_place: bool = False) -> nn.Module:
    """Make the layer that stands where a network of this project has an activation.

    For the maxout names the convolutions do the work
    (:func:`medresnet3d.networks.layers.maxout.use_maxout`); what stands here is nothing (``maxout``) or ReLU
    (``maxout_relu``).

    Args:
        act: see :func:`resolve_activation`.
        channels: channels of its input, so that PReLU has one slope for each; without, it has one.
        in_place: whether ReLU may overwrite its input.

    Raises:
        ConfigError: for an unknown name.
    """
    name, options = resolve_activation(act)
    if name in MAXOUT:
        return nn.ReLU() if name == "maxout_relu" else nn.Identity()  # the maximum's gradient needs its output
    if name == "prelu":
        options.setdefault("num_parameters", channels or 1)
    if name in _IN_PLACE:
        options.setdefault("inplace", in_place)
    layer: nn.Module = ADDED[name](**options) if name in ADDED else Act[name](**options)
    return layer


def maxout_pieces(act: LayerName) -> int:
    """Affine functions per channel that an activation asks for: 0 for all that are not maxout.

    ``("maxout", {"pieces": 3})`` asks for three; the default is two.
    """
    name, options = resolve_activation(act)
    return int(options.get("pieces", 2)) if name in MAXOUT else 0
