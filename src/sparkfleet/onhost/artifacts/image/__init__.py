"""An image to this Spark not by its registry: from another Spark, from a bundle, or made here."""
