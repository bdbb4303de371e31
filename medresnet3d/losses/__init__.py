"""Loss functions, one file each; :func:`build_loss` makes any by its name."""

from medresnet3d.losses.factory import build_loss

__all__ = ["build_loss"]
