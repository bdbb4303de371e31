"""The gradient rules by name, all of ``torch.optim``, with parameter groups."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from medresnet3d.errors import ConfigError
from medresnet3d.names import require_name
from medresnet3d.optimizers.choices import require_options
from medresnet3d.optimizers.parameter_groups import group_parameters


@dataclass(frozen=True)
class Rule:
    """A gradient rule.

    Args:
        optimizer: class of ``torch.optim``.
        usual_rate: learning rate that it is usually tried with first.
        options: what makes it this rule.
        paper: where it comes from.
    """

    optimizer: type[torch.optim.Optimizer]
    usual_rate: float
    options: dict[str, Any] = field(default_factory=dict)
    paper: str = ""


_ROBBINS = "Robbins and Monro, Annals of Mathematical Statistics 22 (1951) 400"
#: gd, sgd and mini_batch_gd are one rule; the batch (all cases, one, some) is the data loader's.
RULES: dict[str, Rule] = {
    "gd": Rule(torch.optim.SGD, 0.1, paper="Cauchy, Comptes rendus 25 (1847) 536"),
    "sgd": Rule(torch.optim.SGD, 0.01, paper=_ROBBINS),
    "mini_batch_gd": Rule(torch.optim.SGD, 0.1, paper=_ROBBINS),
    "momentum": Rule(torch.optim.SGD, 0.01, {"momentum": 0.9}, "Polyak, USSR Comp. Math. 4 (1964) 1"),
    "nesterov": Rule(
        torch.optim.SGD,
        0.01,
        {"momentum": 0.9, "nesterov": True},
        "Nesterov, Soviet Math. Doklady 27 (1983) 372; Sutskever et al., ICML 2013",
    ),
    "adagrad": Rule(torch.optim.Adagrad, 0.01, paper="Duchi et al., JMLR 12 (2011) 2121"),
    "adadelta": Rule(torch.optim.Adadelta, 1.0, paper="Zeiler, arXiv:1212.5701"),
    "rmsprop": Rule(torch.optim.RMSprop, 0.001, paper="Hinton et al., Coursera lecture 6e (2012)"),
    "adam": Rule(torch.optim.Adam, 0.001, paper="Kingma and Ba, ICLR 2015"),
    "adamw": Rule(torch.optim.AdamW, 0.001, paper="Loshchilov and Hutter, ICLR 2019"),
}
_OWN = ("self", "params", "lr", "weight_decay")


def build_optimizer(
    network: nn.Module,
    name: str = "adamw",
    lr: float | None = None,
    weight_decay: float = 0.0,
    **options: Any,
) -> torch.optim.Optimizer:
    """Make an optimizer by name; weight decay acts on layers' weights only (see :func:`group_parameters`).

    ``gd``, ``sgd`` and ``mini_batch_gd`` are the same rule. What tells them apart is the batch, the id ``batch_size``
    of a bundle: ``all`` (gradient descent), 1 (stochastic), or any number between (mini-batch).

    Args:
        network: all its parameters are optimized.
        name: ``gd``, ``sgd``, ``mini_batch_gd``, ``momentum``, ``nesterov``, ``adagrad``, ``adadelta``, ``rmsprop``,
            ``adam`` or ``adamw``.
        lr: learning rate; ``None``: the rule's usual one (``RULES[name].usual_rate``).
        weight_decay: the L2 factor: added to the gradient times the weight (so the penalty is half of it times the
            squared weights); for ``adamw`` it is decoupled from the gradient.
        **options: further arguments of the class of ``torch.optim``, e.g. ``momentum``, ``betas``, ``eps``.

    Raises:
        ConfigError: if the name or an option is unknown, or a value is out of range.

    Example:
        >>> build_optimizer(nn.Linear(2, 1), "momentum", lr=0.1).defaults["momentum"]
        0.9
    """
    require_name("Optimizer", name, RULES)
    rule = RULES[name]
    known = set(inspect.signature(rule.optimizer).parameters).difference(_OWN)
    require_options("optimizer", name, options, known)
    rate = rule.usual_rate if lr is None else lr
    try:
        return rule.optimizer(group_parameters(network, weight_decay), **{"lr": rate, **rule.options, **options})
    except ValueError as error:
        raise ConfigError(f"The optimizer {name!r} cannot be made: {error}.") from error
