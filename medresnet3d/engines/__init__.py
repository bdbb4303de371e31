"""Training and evaluation engines, checkpoints, seeding, precision and distribution."""
