"""The candidate start: watched, proven by the readiness gate, diagnosed when it fails."""
