"""The edge to SSH and pyinfra: remote commands, secrets on their way, tunnels, host keys, small patches."""
