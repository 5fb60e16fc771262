"""Simulated federations in one process: no Ray, no SuperLink."""

from .local_grid import LocalGrid

__all__ = ["LocalGrid"]
