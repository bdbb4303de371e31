"""Published weights: what is known about each file, and where it lies on this computer."""
