"""Stand-ins for what a lab cannot run: the engine of an image, and the hub that models come from.

Programs on lab machines (``hub``, ``vllm``) import the standard library alone.
"""
