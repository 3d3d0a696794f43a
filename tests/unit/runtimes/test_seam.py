"""Nothing outside ``runtimes/`` names Docker: prose (docstrings, comments, messages) may, code may not.

Messages are literals with a blank. Commands are lists: a literal in a list or tuple, or the first argument of
a call, that begins with a command of docker is code. ``docker.io`` is a registry like any other.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet import runtimes

SOURCE = Path(runtimes.__file__).parents[1]

INSTALLER = "Docker as a resource of the host: installs it, or declares, plans, checks and reports that"
LOGIN = "docker login and credential helpers store the credentials of registries"
OTHER_TOOLS = "Docker as other tools and images use it"
REGISTRY = "header of the registry protocol"

ALLOWED: dict[str, tuple[str, set[str]]] = {
    "desired_state/__init__.py": (INSTALLER, {"docker"}),
    "config/resource_models.py": (INSTALLER, {"docker"}),
    "config/resources.py": (INSTALLER, {"docker"}),
    "contract/codes.py": (
        INSTALLER,
        {
            "docker-install-failed",
            "docker-not-prepared",
            "docker-outdated",
            "docker-restart-blocked",
            "docker-unavailable",
        },
    ),
    "contract/registry_credentials.py": (LOGIN, {".docker", "DOCKER_CONFIG", "docker-credential-"}),
    "engines/llamacpp/check.py": (OTHER_TOOLS, {"--docker-repo"}),
    "engines/llamacpp/images.py": (OTHER_TOOLS, {"docker-entrypoint.sh"}),
    "engines/vllm/engine.py": (
        OTHER_TOOLS,
        {
            "/opt/spark-vllm-docker",
            "/var/lib/spark-vllm-docker",
            "98-spark-vllm-docker.yaml",
            "spark-vllm-docker",
        },
    ),
    "engines/vllm/rules/external_checks.py": (LOGIN, {"docker is logged in at nvcr.io"}),
    "fleet/operations/docker_install.py": (INSTALLER, {"docker", "docker-install-failed", "docker.service"}),
    "fleet/operations/host.py": (INSTALLER, {"DOCKER", "docker_install"}),
    "lock/registry.py": (REGISTRY, {"docker-content-digest"}),
    "onhost/artifacts/image/loopback_registry.py": (REGISTRY, {"Docker-Content-Digest"}),
    "onhost/collectors/footprints.py": (
        OTHER_TOOLS,
        {r"\b(drop_caches|docker|nvidia-smi|netplan|%s|NOPASSWD:\s*ALL)\b"},
    ),
    "onhost/collectors/main.py": (INSTALLER, {"docker"}),
    "onhost/collectors/packages.py": (INSTALLER, {"docker", "docker-ce"}),
    "plan/compute.py": (
        INSTALLER,
        {"_docker", "docker", "docker_install"},
    ),
    "plan/docker_install.py": (INSTALLER, {"docker", "docker-restart-blocked"}),
    "plan/model.py": (INSTALLER, {"DOCKER", "Docker", "_AFTER_DOCKER", "docker", "docker-not-prepared"}),
    "plan/operations.py": (INSTALLER, {"DOCKER", "docker"}),
    "plan/preflight/containers.py": (
        INSTALLER,
        {"Docker", "OLDEST_DOCKER", "docker-outdated", "docker-unavailable"},
    ),
    "plan/preflight/network.py": (REGISTRY, {"DOCKER_HUB"}),
    "plan/preflight/parity.py": (INSTALLER, {"Docker"}),
    "resources/kinds/group.py": (INSTALLER, {"docker ", "docker_users"}),
    "resources/kinds/login.py": (LOGIN, {"/root/.docker/config.json", "docker-credential-"}),
}
"""Paths below ``src/sparkfleet`` -> why they name Docker, and what; it only gets shorter."""


COMMAND = re.compile(r"(sudo )?docker ")
IN_CODE = (ast.List, ast.Tuple)


def commands(node: ast.AST) -> Iterator[str]:
    """Yield the commands of docker in a list or tuple, and at the beginning of a call's arguments."""
    values = node.elts if isinstance(node, IN_CODE) else node.args[:1] if isinstance(node, ast.Call) else []
    for value in values:
        part = value.values[0] if isinstance(value, ast.JoinedStr) and value.values else value
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and COMMAND.match(part.value):
            yield part.value


def code_names(tree: ast.AST) -> Iterator[str]:
    """Yield identifiers, imports (of runtimes by their full names) and literals that are no prose."""
    for node in ast.walk(tree):
        yield from commands(node)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sparkfleet.runtimes"):
            yield from (f"{node.module}.{one.name}" for one in node.names)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value.strip():
            yield node.value
        for field in ("name", "asname", "id", "attr", "arg", "module"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield value


def named(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        word
        for word in code_names(tree)
        if "docker" in word.lower().replace(r"\.", ".").replace("docker.io", "")
    }


OUTSIDE = sorted(path for path in SOURCE.rglob("*.py") if SOURCE / "runtimes" not in path.parents)


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_code_outside_runtimes_names_docker(path: Path) -> None:
    _, allowed = ALLOWED.get(str(path.relative_to(SOURCE)), ("", set()))
    assert named(path) == allowed


def test_the_check_knows_code_from_prose() -> None:
    tree = ast.parse('import docker\n"""docker runs"""\nhint = "run docker login"\nargv = ("docker", "ps")\n')
    assert set(code_names(tree)) == {"docker", "hint", "argv", "ps"}


def test_the_check_knows_imports_of_a_runtime_and_commands() -> None:
    tree = ast.parse(
        "from sparkfleet.runtimes import docker as other\n"
        'run(f"sudo docker rm {name}")\nargv = ("sh", "-c", "docker ps")\nraise Error(1, "docker pull it")\n'
    )
    found = set(code_names(tree))
    assert {"sparkfleet.runtimes.docker", "other", "sudo docker rm ", "docker ps"} <= found
    assert "docker pull it" not in found


def test_the_layers_forbid_to_import_a_runtimes_folder() -> None:
    text = (SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one["name"] == "Nothing imports the folder of a runtime"]
    folders = {f"{runtimes.__name__}.{name}" for name in runtimes.names()}
    assert folders <= set(contract["forbidden_modules"])


def test_each_exception_has_a_reason_and_a_file() -> None:
    for path, (reason, allowed) in ALLOWED.items():
        assert (SOURCE / path).is_file(), path
        assert reason in {INSTALLER, LOGIN, OTHER_TOOLS, REGISTRY}
        assert allowed
