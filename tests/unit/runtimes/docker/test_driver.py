"""The Docker runtime beyond its API."""

from __future__ import annotations

import pytest

from sparkfleet.runtimes.docker.onhost.driver import DockerRuntime


@pytest.mark.parametrize("local", ["127.0.0.1:7355/img@sha256:1", ""])
def test_a_program_runs_in_the_image_by_its_name_on_the_spark_without_network_or_pull(
    monkeypatch: pytest.MonkeyPatch, local: str
) -> None:
    monkeypatch.setattr(DockerRuntime, "name_of", lambda *_: local)
    command = DockerRuntime().program_command("img@sha256:1", "python3", ("parse", "m"))
    assert command[:3] == ("docker", "run", "--rm")
    assert command[-6:] == ("--entrypoint", "python3", local or "img@sha256:1", "-", "parse", "m")
    assert {"--network", "none", "--pull", "never"} < set(command)
