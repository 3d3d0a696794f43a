"""The kinds of host state. Each module here is one kind; ``registry`` finds them."""
