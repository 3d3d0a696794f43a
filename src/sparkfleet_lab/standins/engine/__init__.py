"""The engine's stand-in: what lab images run as ``vllm``.

It takes the flags of its vLLM release, loads (made-up) models from a Hugging Face cache, logs, answers,
counts and exits as the real engine does, and misbehaves on request (``modes``). It computes nothing.
Standard library alone: in an image these modules are the package ``vllm.standin``.
"""
