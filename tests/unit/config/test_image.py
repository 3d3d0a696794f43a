from typing import Any

import pytest

from sparkfleet.config import image

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "repository", "tag", "digest"),
    [
        ("vllm/vllm-openai:v0.24.0", "docker.io/vllm/vllm-openai", "v0.24.0", ""),
        ("docker.io/vllm/vllm-openai:v0.24.0", "docker.io/vllm/vllm-openai", "v0.24.0", ""),
        ("index.docker.io/vllm/vllm-openai:x", "docker.io/vllm/vllm-openai", "x", ""),
        ("ubuntu:24.04", "docker.io/library/ubuntu", "24.04", ""),
        (f"nvcr.io/nvidia/vllm:26.04-py3@{DIGEST}", "nvcr.io/nvidia/vllm", "26.04-py3", DIGEST),
        (f"nvcr.io/nvidia/vllm@{DIGEST}", "nvcr.io/nvidia/vllm", "", DIGEST),
        ("localhost:5000/a/b:c", "localhost:5000/a/b", "c", ""),
        ("registry:5000/a:c", "registry:5000/a", "c", ""),
        ("ghcr.io/z-lab/vllm_openai:x", "ghcr.io/z-lab/vllm_openai", "x", ""),
    ],
)
def test_a_name_is_read_as_docker_reads_it(text: Any, repository: str, tag: str, digest: Any) -> None:
    found = image.parse(text)
    assert (found.repository, found.tag, found.digest) == (repository, tag, digest)
    assert image.registry(found) == repository.split("/", maxsplit=1)[0]


@pytest.mark.parametrize(
    "text", ["", "UPPER/case:x", "a b:c", "a/b", "a:b:c/d", "a@sha256:12", "-x:y", "a/b:"]
)
def test_what_is_no_pinned_or_tagged_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a valid image name|neither tag"):
        image.parse(text)
