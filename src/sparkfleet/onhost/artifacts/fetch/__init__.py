"""Images and weights from their sources to this Spark, hashed, and what is remembered of them."""
