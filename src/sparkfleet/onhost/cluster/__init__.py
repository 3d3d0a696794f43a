"""Rollouts and supervision of clusters: all ranks start for one epoch, and change together or not at all."""
