"""Settings of the fleet of lab machines, read from the lab that is up; nothing without one."""

import sparkfleet_lab.settings as _lab

_settings = _lab.settings()

sparkfleet = _settings.sparkfleet

# pyinfra takes module-level names alone, and no lab means no such names.
globals().update(_settings.connection)
