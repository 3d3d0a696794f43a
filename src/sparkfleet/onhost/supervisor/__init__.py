"""ExecStart of a service's unit: supervises one container, and counts starts that failed."""
