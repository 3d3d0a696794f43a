"""Settings of the fleet of lab machines, read from the lab that is up; none without a lab."""

try:
    import sparkfleet_lab.settings as _lab
except ModuleNotFoundError:  # the distribution sparkfleet-lab is not installed
    pass
else:
    _settings = _lab.settings()
    sparkfleet = _settings.sparkfleet
    # pyinfra takes module-level names alone, and no lab means no such names.
    globals().update(_settings.connection)
