"""Optimizers, learning-rate schedules and population methods, by name."""
