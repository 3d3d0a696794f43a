"""Deletes what a fleet no longer needs; everything else stays valid."""
