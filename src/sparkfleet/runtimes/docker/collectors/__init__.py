"""Docker's part of the probe: ``probe`` in every one, ``preflight`` and ``storage`` on request."""
