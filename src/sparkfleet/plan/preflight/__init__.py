"""Preflight: what a host needs to serve, one row per check. Pure."""
