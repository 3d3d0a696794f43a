"""Why an engine did not come up. The matching is with the on-host programs: it runs on the Spark, too."""

from sparkfleet.onhost.gate.diagnosis import Diagnosis, diagnose, last_meaningful_lines, phase_of, warnings

__all__ = ["Diagnosis", "diagnose", "last_meaningful_lines", "phase_of", "warnings"]
