"""Network families, one file each, dimension-generic."""

from medresnet3d.networks.classifier import build_classifier
from medresnet3d.networks.pretrained import load_pretrained
from medresnet3d.networks.transfer import start_from
from medresnet3d.networks.voxresnet import VoxResNet, build_voxresnet

__all__ = ["VoxResNet", "build_classifier", "build_voxresnet", "load_pretrained", "start_from"]
