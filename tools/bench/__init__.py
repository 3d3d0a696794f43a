"""``make bench``: what a plan costs, beside what the same costs with other tools, measured in one run."""
