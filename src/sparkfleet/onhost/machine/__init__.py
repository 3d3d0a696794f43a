"""The Spark as the programs here see it: Docker, systemd, files, memory, the wire. A seam for tests."""
