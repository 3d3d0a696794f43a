"""Downloads of images and model files from outside, their hashes, and the records of both."""
