"""The links between the Sparks of a cluster: observed, desired, and their difference. Pure."""
