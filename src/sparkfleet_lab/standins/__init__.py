"""Stand-ins for what a lab has no means to run: the engine of an image, and the hub that models come from.

What runs on lab machines (``hub``, ``vllm``) imports the standard library alone.
"""
