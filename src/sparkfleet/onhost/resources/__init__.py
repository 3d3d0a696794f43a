"""Declared resources applied on this Spark, recorded, and reverted."""
