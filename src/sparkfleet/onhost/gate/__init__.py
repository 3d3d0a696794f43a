"""A candidate on trial: watched while it starts, asked at the gate, explained when it fails."""
