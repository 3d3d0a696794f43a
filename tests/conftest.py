"""What all tests share."""

from hypothesis import HealthCheck, settings

# Lab machines work meanwhile: how long an example takes says how busy this computer is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
