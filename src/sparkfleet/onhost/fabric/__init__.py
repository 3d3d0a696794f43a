"""Links between Sparks: changed with automatic revert, checked, measured."""
