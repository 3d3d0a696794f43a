import pytest
from packaging.version import Version

from sparkfleet.engines.vllm.images import (
    args_after_serve,
    is_fork,
    ngc_base,
    read,
    serve_prefix,
    vllm_version,
)
from sparkfleet.engines.vllm.schema import nearest

API_SERVER = ("python3", "-m", "vllm.entrypoints.openai.api_server")
NVIDIA = ("/opt/nvidia/nvidia_entrypoint.sh",)


@pytest.mark.parametrize(
    ("repository", "tag", "version"),
    [
        ("nvcr.io/nvidia/vllm", "25.09-py3", "0.10.1.1"),
        ("nvcr.io/nvidia/vllm", "25.12.post1-py3", "0.12.0"),
        ("nvcr.io/nvidia/vllm", "26.04-py3", "0.19.0"),
        ("nvcr.io/nvidia/vllm", "26.08-py3", "0.27.1"),
        ("nvcr.io/nvidia/vllm", "26.09-py3", "0.29.0"),
        ("nvcr.io/nvidia/vllm", "26.10-py3", "0.31.0"),
        ("nvcr.io/nvidia/vllm", "26.10.pre1-py3", "0.31.0"),
        ("nvcr.io/nvidia/vllm", "26.10.post2-py3-igpu", "0.31.0"),
        ("nvcr.io/nvidia/vllm", "27.01.pre1-py3", ""),
        ("nvcr.io/nvidia/vllm", "27.01-py3", ""),
        ("nvcr.io/nvidia/vllm", "latest", ""),
        ("docker.io/vllm/vllm-openai", "v0.24.0", "0.24.0"),
        ("vllm/vllm-openai", "v0.24.0-ubuntu2404", "0.24.0"),
        ("docker.io/vllm/vllm-openai", "v0.31.0-aarch64-cu129", "0.31.0"),
        ("docker.io/vllm/vllm-openai", "v0.10.1.1", "0.10.1.1"),
        ("docker.io/vllm/vllm-openai", "nightly", ""),
        ("docker.io/vllm/vllm-openai", "cu130-nightly", ""),
        ("docker.io/vllm/vllm-openai", "latest", ""),
        ("ghcr.io/someone/vllm", "v0.24.0", ""),
    ],
)
def test_the_version_inside_follows_from_the_name_where_it_can(
    repository: str, tag: str, version: str
) -> None:
    assert vllm_version(repository, tag) == version


@pytest.mark.parametrize("version", read().ngc.values())
def test_every_nvidia_release_has_a_schema_at_or_below(version: str) -> None:
    assert Version(nearest(version)[0].version) <= Version(version)


@pytest.mark.parametrize("tag", ["26.06-py3", "26.07-py3", "26.08-py3", "26.09-py3", "26.10-py3"])
def test_the_newest_nvidia_releases_are_checked_against_their_own_flags(tag: str) -> None:
    assert nearest(vllm_version("nvcr.io/nvidia/vllm", tag))[1]


@pytest.mark.parametrize(
    ("repository", "fork"),
    [
        ("eugr/spark-vllm-b12x", True),
        ("docker.io/eugr/spark-vllm", True),
        ("registry.site.test:5000/mirror/eugr/spark-vllm-b12x", True),
        ("vllm-node-b12x", True),
        ("ghcr.io/aeon-7/aeon-vllm", True),
        ("nvcr.io/nvidia/vllm", False),
        ("vllm/vllm-openai", False),
        ("registry.site.test/my-vllm", False),
        ("spark-vllm", False),
    ],
)
def test_a_fork_is_known_by_its_repository_in_any_registry(repository: str, fork: bool) -> None:
    assert is_fork(repository) is fork


@pytest.mark.parametrize(
    ("entrypoint", "prefix"),
    [
        (("vllm", "serve"), ()),
        (("/usr/local/bin/vllm", "serve"), ()),
        (("vllm",), ("serve",)),
        (("vllm", "bench"), None),
        ((), ("vllm", "serve")),
        (NVIDIA, ("vllm", "serve")),
        (("/bin/bash", "/start.sh"), ("vllm", "serve")),
        (("bash",), ("vllm", "serve")),
        (("bash", "-c", "exec vllm serve x"), None),
        (("/usr/bin/tini", "--"), ("vllm", "serve")),
        (("tini", "-g", "vllm", "serve"), ()),
        (("env", "A=1", "vllm", "serve"), ()),
        (API_SERVER, ("--model",)),
        (("/usr/bin/python3.12", "-m", "vllm.entrypoints.cli.main"), ("serve",)),
        (("python3", "app.py"), None),
        (("nginx",), None),
    ],
)
def test_vllm_serve_runs_exactly_once_whatever_the_entrypoint(
    entrypoint: tuple[str, ...], prefix: tuple[str, ...] | None
) -> None:
    assert serve_prefix(entrypoint) == prefix


@pytest.mark.parametrize(
    "before", [("vllm",), (*NVIDIA, "vllm"), ("nginx", "--", "/usr/bin/vllm"), ("nice", "vllm")]
)
def test_the_args_of_a_running_container_are_found_behind_its_entrypoint(before: tuple[str, ...]) -> None:
    assert args_after_serve((*before, "serve", "m", "--port", "1")) == ("m", "--port", "1")


@pytest.mark.parametrize("command", [("sleep", "infinity"), (), ("vllm",)])
def test_the_command_of_a_container_that_serves_nothing_is_unchanged(command: tuple[str, ...]) -> None:
    assert args_after_serve(command) == command


@pytest.mark.parametrize(
    "repository, tag, base",
    [
        ("nvcr.io/nvidia/vllm", "26.08-py3", ("13.4.1", "615.65")),
        ("nvcr.io/nvidia/vllm", "26.10.pre1-py3", ("13.4.3", "615")),
        ("nvcr.io/nvidia/vllm", "26.07-py3", ("13.3.1", "")),
        ("nvcr.io/nvidia/vllm", "25.09-py3", None),
        ("nvcr.io/nvidia/vllm", "", None),
        ("docker.io/vllm/vllm-openai", "26.08-py3", None),
    ],
)
def test_a_release_of_nvidia_has_the_cuda_and_driver_that_it_was_built_for(
    repository: str, tag: str, base: tuple[str, str] | None
) -> None:
    found = ngc_base(repository, tag)
    assert (found and (found.cuda, found.driver)) == base


def test_each_release_in_the_table_has_a_source_and_a_known_vllm() -> None:
    assert all("https://" in one.source for one in read().ngc_base.values())
    assert read().ngc_base.keys() <= read().ngc.keys()
