"""The Docker runtime: a service is a container that its systemd unit supervises.

``settings``, ``render`` and ``compare`` belong to the operator's side.
"""
