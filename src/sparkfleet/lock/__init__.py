"""fleet.lock: tags and revisions resolved to digests and commits, with sizes and hashes."""
