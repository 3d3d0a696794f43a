"""The edge to SSH and pyinfra: remote commands, secrets, tunnels, host keys, patches."""
