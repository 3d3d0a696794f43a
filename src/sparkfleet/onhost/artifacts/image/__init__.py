"""An image to this Spark not by its registry: from another Spark, from an offline mirror, or made here."""
