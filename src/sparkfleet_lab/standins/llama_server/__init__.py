"""A stand-in for llama-server of llama.cpp: its arguments, log, endpoints, metrics and exit codes.

Standard library alone: it is copied into an image of the lab. ``LAB_ENGINE`` names faults, as for the
stand-in of vLLM (``standins/engine/modes.py``).
"""
