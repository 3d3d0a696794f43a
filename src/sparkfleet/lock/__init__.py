"""fleet.lock: resolves tags and revisions to digests and commits, with sizes and hashes."""
