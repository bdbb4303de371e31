"""The shipped bundles, one folder a system, in the MONAI bundle layout; installed as `medresnet3d._bundles`."""
