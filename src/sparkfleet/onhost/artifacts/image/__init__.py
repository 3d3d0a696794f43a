"""Images without their registries: from another host, from an offline mirror, and derived ones."""
