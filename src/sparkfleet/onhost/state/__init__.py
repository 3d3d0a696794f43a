"""State on a Spark: services and their generations, journals of rollouts, text of the units."""
