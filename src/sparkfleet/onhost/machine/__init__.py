"""Interface to the machine: Docker, systemd, files, memory, the network. Tests replace it."""
