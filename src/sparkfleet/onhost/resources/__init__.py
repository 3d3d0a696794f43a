"""Declared things of a Spark made so (files, packages, settings), and taken back."""
