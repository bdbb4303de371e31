"""Bundles: find, inspect, trust, load, verify and export."""
