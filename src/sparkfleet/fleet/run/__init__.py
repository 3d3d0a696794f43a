"""One run over a fleet: looks, plans shown, how far each host is, and how it went."""
