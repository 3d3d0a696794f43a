"""Swaps of several Sparks as one: the head decides, its members obey, ranks start together."""
