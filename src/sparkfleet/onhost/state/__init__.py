"""What a Spark remembers: services and their generations, the diaries of swaps, the text of our units."""
