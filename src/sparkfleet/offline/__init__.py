"""What is carried to a site without Internet: images and models of a fleet in one directory."""
