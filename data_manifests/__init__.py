"""Manifest schema and data set cards; installed as `medresnet3d._data_manifests`."""
