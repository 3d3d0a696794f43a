"""Declarative provisioning of NVIDIA DGX Spark fleets."""

__version__ = "0.1.0"
