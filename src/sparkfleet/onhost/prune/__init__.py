"""Removing what a fleet does not need any more, so that what is left stays valid."""
