"""Fallow lets idle GPUs rest."""

__version__ = "0.1.0"
