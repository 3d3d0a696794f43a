"""The transaction that replaces a generation, from the checks before it to the automatic rollback."""
