"""Manifests, splits, datasets, public collections and phantoms."""
