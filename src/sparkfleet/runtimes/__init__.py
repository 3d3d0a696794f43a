"""How the process of an engine is contained: ``docker`` runs it in a container."""
