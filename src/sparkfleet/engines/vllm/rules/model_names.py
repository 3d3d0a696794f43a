"""Models that rules speak of, by what their repositories are called."""

QWEN35 = r"\bQwen3\.5-"
QWEN35_35B = r"\bQwen3\.5-35B-A3B"
QWEN36 = r"\bQwen3\.6-"
QWEN36_35B_NVFP4 = r"\bQwen3\.6-35B-A3B.*NVFP4"
GEMMA4_26B_NVFP4 = r"/Gemma-4-26B-A4B.*NVFP4"
GEMMA4_CODER = r"\bgemma-4-12B-coder"
DIFFUSION_GEMMA = r"\bdiffusiongemma"
NEMOTRON3_NANO = r"\bNemotron-3-Nano"
NEMOTRON35_LIGHTNING = r"\bNemotron-3\.5-Lightning"
NEMOTRON = r"\bNemotron"
GPT_OSS = r"\bgpt-oss-"
MISTRAL_SMALL_4 = r"\bMistral-Small-4-"
MISTRAL_NEMO = r"\bMistral-?NeMo"
PHI4_MULTIMODAL = r"\bPhi-4-multimodal"
SPARSE_INDEXER = r"\bGLM-5|\bDeepSeek-V(?:3\.2|4)|\bQwen3\.8-Flash-Next"
LAGUNA = r"\bLaguna"
NVFP4 = r"NVFP4|FP4\b"

DRAFTERS = {
    r"\bgemma-4-31b-it": r"gemma-4-31B-it.*speculator\.dflash",
    r"\bLaguna-XS": r"Laguna-XS.*speculator\.dflash",
    r"\bQwen3\.5-27B": r"Qwen3\.5-27B-DFlash",
}
"""Model -> its published drafter: a drafter is trained for one model."""
