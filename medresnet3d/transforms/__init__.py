"""Preparation and augmentation of images, one file a modality, as MONAI transforms."""

from medresnet3d.transforms.template import TemplateAugmentation, TemplateAugmentationd

__all__ = ["TemplateAugmentation", "TemplateAugmentationd"]
