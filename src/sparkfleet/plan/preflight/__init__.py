"""What a Spark needs to serve, checked one by one before anything is changed. Pure: seen in, rows out."""
