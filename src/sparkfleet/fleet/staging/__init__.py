"""Images and weights to a Spark: from its source, from another Spark, or from an offline mirror."""
