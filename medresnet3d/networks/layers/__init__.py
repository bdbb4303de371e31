"""Activations, normalisations and regularising layers; those that fit are added to MONAI's factories."""

from medresnet3d.networks.layers.activations import register_activations, resolve_activation
from medresnet3d.networks.layers.batch_renorm import (
    BatchRenorm1d,
    BatchRenorm2d,
    BatchRenorm3d,
    register_batch_renorm,
    synchronise_batch_renorm,
)
from medresnet3d.networks.layers.dropconnect import DropConnectConv, DropConnectHead, DropConnectLinear
from medresnet3d.networks.layers.maxout import DoubleActivation, Maxout, MaxoutConv
from medresnet3d.networks.layers.noisy_softplus import NoisySoftplus, NSPConv, NSPLinear
from medresnet3d.networks.layers.random_multiplier import RandomMultiplier
from medresnet3d.networks.layers.rrelu import PaperRReLU
from medresnet3d.networks.layers.spiking import LIFNeuron, SpikingNetwork

register_activations()
register_batch_renorm()

__all__ = [
    "BatchRenorm1d",
    "BatchRenorm2d",
    "BatchRenorm3d",
    "DoubleActivation",
    "DropConnectConv",
    "DropConnectHead",
    "DropConnectLinear",
    "LIFNeuron",
    "Maxout",
    "MaxoutConv",
    "NSPConv",
    "NSPLinear",
    "NoisySoftplus",
    "PaperRReLU",
    "RandomMultiplier",
    "SpikingNetwork",
    "resolve_activation",
    "synchronise_batch_renorm",
]
