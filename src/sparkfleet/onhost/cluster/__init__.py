"""Cluster rollouts: the head decides, its members follow, all ranks start at the same time."""
