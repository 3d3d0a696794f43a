"""The links between the Sparks of a cluster: which there are, what they shall be, what differs. Pure."""
