"""Last layers of networks."""

from medresnet3d.networks.heads.linear import LinearHead

__all__ = ["LinearHead"]
