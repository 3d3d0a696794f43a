"""Links between Sparks: changed so that they come back by themselves, checked, measured."""
