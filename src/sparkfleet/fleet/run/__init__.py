"""One run over a fleet: plans, progress and results of all hosts."""
