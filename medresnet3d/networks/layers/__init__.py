"""Layers and blocks that networks are built of; importing this registers them in MONAI's factories."""
