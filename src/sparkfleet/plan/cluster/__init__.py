"""Services that several Sparks serve together: one render for all ranks, and one plan for all members."""
