"""Synthetic images in the official on-disk layouts, one file a modality."""
