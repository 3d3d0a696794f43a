"""Files and images from one Spark to another: many streams, hashed on arrival, resumed after a cut."""
