"""The engine's stand-in, which lab images run as ``vllm``.

It accepts the flags of its vLLM release, loads (synthetic) models from a Hugging Face cache, logs, responds,
counts and exits like the real engine, and fails on request (``modes``). It computes nothing.
Standard library alone: in an image these modules are the package ``vllm.standin``.
"""
