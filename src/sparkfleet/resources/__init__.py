"""Declared host state: one module below ``kinds/`` for each kind of resource.

Standard library alone: the operator's side declares, compares and describes with these modules; the probe and
the programs on a Spark observe, apply and revert with them.
"""
