"""The candidate start with its watchdog, the readiness gate, and the diagnosis of failures."""
