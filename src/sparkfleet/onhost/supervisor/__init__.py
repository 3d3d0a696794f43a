"""ExecStart of a service's unit: supervises one container and counts failed starts."""
