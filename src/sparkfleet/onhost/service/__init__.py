"""What a service is here: a generation, ready to be started, and its container as Docker shows it. Pure."""
