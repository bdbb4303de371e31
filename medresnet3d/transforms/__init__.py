"""Transforms, one file a modality."""
