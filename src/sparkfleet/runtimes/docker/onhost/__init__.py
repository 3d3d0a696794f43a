"""The Docker driver on a Spark. Standard library alone."""
