"""llama.cpp: a GGUF file served by ``llama-server``."""
