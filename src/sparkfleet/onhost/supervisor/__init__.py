"""ExecStart of a service's unit: holds one container, and counts starts that failed."""
