"""The build contexts of the engine images: complete, native-free, and alike up to the engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sparkfleet.engines.vllm.images import serve_prefix, vllm_version
from sparkfleet_lab.standin_images import ImageContext, contexts

PACKAGES = "/usr/lib/python3/dist-packages/"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageContext]:
    return {context.ref: context for context in contexts(tmp_path_factory.mktemp("contexts"), "the-base:1")}


@pytest.fixture(scope="module")
def vllm(made: dict[str, ImageContext]) -> dict[str, ImageContext]:
    return {ref: context for ref, context in made.items() if context.engine == "vLLM"}


def instructions(context: ImageContext) -> list[str]:
    return (context.directory / "Dockerfile").read_text().splitlines()


def test_the_images_are_those_that_recipes_name(made: dict[str, ImageContext]) -> None:
    assert sorted(made) == [
        "docker.io/vllm/vllm-openai:v0.24.0-ubuntu2404",
        "docker.io/vllm/vllm-openai:v0.25.1",
        "ghcr.io/ggml-org/llama.cpp:server-cuda",
        "nvcr.io/nvidia/vllm:26.04-py3",
        "nvcr.io/nvidia/vllm:26.05-py3",
    ]


def test_each_has_the_vllm_version_that_its_tag_promises(vllm: dict[str, ImageContext]) -> None:
    for ref, context in vllm.items():
        assert context.vllm == vllm_version(*ref.rsplit(":", 1))
        assert (context.directory / "engine" / f"vllm-{context.vllm}.dist-info" / "METADATA").is_file()
        assert context.vllm in (context.directory / "engine/vllm/version.py").read_text()


def test_each_has_the_entrypoint_of_the_real_image(vllm: dict[str, ImageContext]) -> None:
    for ref, context in vllm.items():
        assert instructions(context)[-1] == f"ENTRYPOINT {json.dumps(list(context.entrypoint))}"
        argv = (*context.entrypoint, *(serve_prefix(context.entrypoint) or ()))
        assert argv[-2:] == ("vllm", "serve"), ref


def test_all_layers_up_to_the_engine_are_the_same(vllm: dict[str, ImageContext]) -> None:
    heads = {
        tuple(line for line in instructions(c)[: instructions(c).index("COPY engine/ " + PACKAGES)])
        for c in vllm.values()
    }
    assert len(heads) == 1
    assert next(iter(heads))[0] == "FROM the-base:1"


def test_the_image_of_llama_cpp_runs_llama_server_and_has_no_client_of_the_hub(
    made: dict[str, ImageContext],
) -> None:
    context = made["ghcr.io/ggml-org/llama.cpp:server-cuda"]
    assert instructions(context)[-1] == 'ENTRYPOINT ["/app/llama-server"]'
    assert "LABEL org.opencontainers.image.version=0.5.0" in instructions(context)
    assert not list(context.directory.rglob("hf"))


def test_everything_that_is_copied_is_in_the_context(made: dict[str, ImageContext]) -> None:
    for context in made.values():
        for line in instructions(context):
            if line.startswith("COPY "):
                assert (context.directory / line.split()[1]).exists(), line


def test_no_native_code_is_copied(made: dict[str, ImageContext]) -> None:
    for context in made.values():
        assert not [path for path in context.directory.rglob("*") if path.suffix in (".so", ".pyd", ".pyc")]


def test_the_hub_s_client_is_complete_and_runs_without_anything_else(
    made: dict[str, ImageContext], tmp_path: Path
) -> None:
    context = made["nvcr.io/nvidia/vllm:26.04-py3"]
    code = f"import sys; sys.path.insert(0, {str(context.directory / 'packages')!r})\n"
    code += "from huggingface_hub.cli.hf import main; sys.argv = ['hf', 'download', '--help']; main()"
    env = {"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-S", "-s", "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "--revision" in done.stdout) == (0, True), done.stderr


def test_nvidia_s_entrypoint_prints_a_banner_and_runs_what_it_is_given(made: dict[str, ImageContext]) -> None:
    script = made["nvcr.io/nvidia/vllm:26.04-py3"].directory / "nvidia/nvidia_entrypoint.sh"
    done = subprocess.run(
        [script, "sh", "-c", "echo ran with $0 $1; exit 7", "a", "b c"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7
    assert "NVIDIA Release 26.04" in done.stdout
    assert done.stdout.endswith("ran with a b c\n")
