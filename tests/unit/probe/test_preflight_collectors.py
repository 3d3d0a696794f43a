"""What a preflight looks at on the Spark itself, against files, programs and servers made here."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.probe import PreflightRequest
from sparkfleet.onhost.collectors import basics, commands, footprints, gpu, machine, reach, system, toolkit
from sparkfleet.onhost.collectors import preflight as preflight_look
from sparkfleet.probe import frame
from sparkfleet.probe.command import more_parts, probe_command, sources
from sparkfleet.probe.preflight import ObservedPreflight, read_preflight
from sparkfleet.runtimes.docker.collectors import preflight as docker_preflight
from sparkfleet.runtimes.docker.collectors.probe import LABEL_SERVICE
from tests.unit.frames import text_of
from tests.unit.probe.requests import request_of


def test_one_command_brings_the_preflight_and_the_plans_look() -> None:
    request = request_of(preflight=PreflightRequest(urls=("http://127.0.0.1:1/",)))
    nonce = frame.new_nonce()
    argv = ["/bin/sh", "-c", probe_command(request, nonce)]
    text = text_of(subprocess.run(argv, capture_output=True, text=True, check=True).stdout, nonce)
    assert text is not None
    seen = read_preflight("here", text)
    assert isinstance(seen, ObservedPreflight)
    assert seen.reach is not None
    assert json.loads(text)["preflight"]["reach"]["http://127.0.0.1:1/"]["step"] == "connect"


def test_the_probe_of_a_plan_does_not_contain_the_preflight() -> None:
    names = {name.rpartition(".")[2] for name, _ in sources()}
    assert not names & {"reach", "footprints", "gpu", "preflight"}
    assert {"reach", "footprints", "gpu", "preflight"} <= {
        name.rpartition(".")[2] for name, _ in sources(more_parts(request_of(preflight=PreflightRequest())))
    }


@pytest.fixture
def bin_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_gpu_is_what_its_driver_says(bin_: Path) -> None:
    assert gpu.collect_gpu() == {"error": "nvidia-smi is not installed"}
    program(
        bin_,
        "nvidia-smi",
        'case "$1" in --query-gpu*) echo "NVIDIA GB10, 580.95.05, 12.1" ;;'
        ' *) echo "| Driver Version: 580.95.05   CUDA Version: 13.0  |" ;; esac',
    )
    assert gpu.collect_gpu() == {
        "count": 1, "name": "NVIDIA GB10", "driver": "580.95.05", "compute": "12.1", "cuda": "13.0",
    }  # fmt: skip
    program(bin_, "nvidia-smi", "echo could not talk to the driver; exit 9")
    assert gpu.collect_gpu() == {"error": "could not talk to the driver"}


def test_the_load_of_the_gpu_is_read_again_only_while_it_is_busy_at_little_power(
    bin_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "PAUSE_S", 0)
    program(bin_, "nvidia-smi", "echo '97, 18.42, 611'")
    assert gpu.collect_load() == {"samples": [{"percent": 97.0, "watts": 18.42, "mhz": 611.0}] * 3}
    program(bin_, "nvidia-smi", "echo '97, 61.00, 2411'")
    assert len(gpu.collect_load()["samples"]) == 1
    program(bin_, "nvidia-smi", "echo '3, 4.53, 208'")
    assert len(gpu.collect_load()["samples"]) == 1
    program(bin_, "nvidia-smi", "echo '97, [N/A]'")
    assert gpu.collect_load() == {"samples": [{"percent": 97.0, "watts": None, "mhz": None}]}
    program(bin_, "nvidia-smi", "echo no driver; exit 9")
    with pytest.raises(OSError, match="no driver"):
        gpu.collect_load()


def test_free_blocks_are_summed_over_all_zones(tmp_path: Path) -> None:
    path = tmp_path / "buddyinfo"
    path.write_text(
        "Node 0, zone      DMA      1      0      2\nNode 0, zone   Normal   1000      3     40 \n"
    )
    found = system.collect_blocks(str(path))
    assert found["free"] == [1001, 3, 42]
    assert found["page_kib"] in {4, 16, 64}
    with pytest.raises(FileNotFoundError):
        system.collect_blocks(str(tmp_path / "none"))


def test_settings_of_nvidias_packages_are_read(tmp_path: Path) -> None:
    assert system.collect_nvidia(str(tmp_path)) == {"sources": [], "broken_sources": [], "runtime_mode": ""}
    sources, config = tmp_path / "apt/sources.list.d", tmp_path / "nvidia-container-runtime"
    sources.mkdir(parents=True)
    config.mkdir()
    good, bad = str(sources / "dgx.sources"), str(sources / "nvidia.sources")
    Path(good).write_text("URIs: https://repo.download.nvidia.com/baseos/ubuntu/noble/arm64/\n")
    Path(bad).write_text("URIs: https://repo.download.nvidia.com/baseos/8/ubuntu/noble/arm64/\n")
    (config / "config.toml").write_text('[nvidia-container-runtime]\n#mode = "cdi"\nmode = "legacy"\n')
    assert system.collect_nvidia(str(tmp_path)) == {
        "sources": [good, bad], "broken_sources": [bad], "runtime_mode": "legacy",
    }  # fmt: skip


def test_contiguous_memory_is_read_and_unknown_where_the_kernel_does_not_report_it(tmp_path: Path) -> None:
    assert machine.collect_machine(str(tmp_path))["cma"] == [None, None]
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nCmaTotal:        0 kB\nCmaFree:    940604 kB\n")
    assert machine.collect_machine(str(tmp_path))["cma"] == [0, 940604]


def test_a_program_that_hangs_or_is_not_there_is_an_answer_too(
    bin_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "LIMIT_S", 0.05)
    program(bin_, "hangs", "exec sleep 5")
    assert commands.run("hangs")[0] == 124
    assert commands.run("no-such-program")[0] == 127
    assert commands.last_line("a\nb\n\n") == "b"
    assert commands.last_line("") == ""


def test_a_program_that_survives_its_kill_in_the_kernel_is_left(
    bin_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill, survivors = os.kill, []
    monkeypatch.setattr(commands, "LIMIT_S", 0.05)
    monkeypatch.setattr(commands, "OUTPUT_LIMIT_S", 0.05)
    monkeypatch.setattr(os, "kill", lambda process, _: survivors.append(process))
    program(bin_, "hangs", "exec sleep 60")
    assert commands.run("hangs")[0] == 124
    with pytest.raises(TimeoutError, match="did not respond"):
        commands.output("hangs")
    for process in survivors:
        assert os.waitpid(process, os.WNOHANG) == (0, 0), "it was waited for"
        kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    assert len(survivors) == 2


def test_a_command_reads_its_input_and_may_write_more_than_a_pipe_holds(bin_: Path) -> None:
    program(bin_, "doubles", "cat > $0.in; cat $0.in $0.in; echo late >&2; exit 3")
    text = "\u00e4\n" * 100_000
    assert commands.output("doubles", stdin=text) == text * 2
    assert commands.run("doubles") == (3, "", "late\n")


def test_a_command_that_is_killed_has_a_negative_code_and_no_bytes_are_an_error(bin_: Path) -> None:
    program(bin_, "dies", "printf 'a\\377b'; kill -TERM $$")
    assert commands.run("dies") == (-15, "a\ufffdb", "")


def test_the_system_tells_its_release(bin_: Path, tmp_path: Path) -> None:
    program(bin_, "uname", "echo aarch64")
    assert system.collect_system()["arch"] == "aarch64"
    (tmp_path / "release").write_text('DGX_NAME="DGX Spark"\nDGX_SWBUILD_VERSION="7.3.1"\n# x\n')
    assert system.variables(str(tmp_path / "release"))["DGX_SWBUILD_VERSION"] == "7.3.1"
    assert system.variables("/no/such/file") == {}
    assert abs(system.collect_clock(time.monotonic())["now"] - time.time()) < 60


def test_the_toolkit_is_its_programs_and_the_descriptions_of_devices(
    bin_: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolkit, "CDI_DIRECTORIES", (str(tmp_path / "cdi"), "/no/such"))
    assert toolkit.collect_toolkit() == {"programs": [], "cdi": []}
    program(bin_, "nvidia-ctk", "")
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "nvidia.yaml").write_text("")
    assert toolkit.collect_toolkit() == {
        "programs": ["nvidia-ctk"],
        "cdi": [str(tmp_path / "cdi" / "nvidia.yaml")],
    }


def test_of_netplan_and_units_only_what_matters_is_reported(
    bin_: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(bin_, "systemctl", 'printf "active\\ninactive\\n"; exit 3')
    program(bin_, "visudo", "echo '/etc/sudoers.d/x:1:3: syntax error' >&2; exit 1")
    monkeypatch.setattr(basics, "UNIT_DIR", str(tmp_path))
    (tmp_path / "llm.service").write_text("[Service]\nExecStart=docker run vllm/vllm-openai\n")
    (tmp_path / "other.service").write_text("[Service]\nExecStart=/bin/true\n# docker run\n")
    (tmp_path / "link.service").symlink_to("/dev/null")
    found = footprints.collect_footprints(["vllm", "llama-server"], ["/no/such", str(tmp_path)])
    assert found["units"] == {str(tmp_path / "llm.service"): ["docker run", "vllm"]}
    assert found["sudoers_errors"] == ["/etc/sudoers.d/x:1:3: syntax error"]
    assert found["killers"] == {"earlyoom": "active"}
    assert found["directories"] == [str(tmp_path)]


def test_the_text_of_a_file_stays_on_the_spark(tmp_path: Path) -> None:
    (tmp_path / "50-wifi.yaml").write_text("wifis: {password: canary}\nenp1s0f1np1: {}\n")
    found = footprints._matches(str(tmp_path), ".yaml", footprints.FABRIC)
    assert found == {str(tmp_path / "50-wifi.yaml"): ["enp1s0f1np1"]}


def test_a_sudoers_check_without_details_is_reported_as_it_is(bin_: Path) -> None:
    program(bin_, "visudo", "echo 'visudo: /etc/sudoers: bad permissions' >&2; exit 1")
    assert footprints._sudoers_errors() == ["visudo: /etc/sudoers: bad permissions"]
    program(bin_, "visudo", "echo '/etc/sudoers: parsed OK'")
    assert footprints._sudoers_errors() == []


def test_the_engine_tells_its_storage_and_everybodys_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    responses = {
        "/info": {
            "ServerVersion": "28",
            "Driver": "overlay2",
            "DockerRootDir": "/d",
            "Runtimes": {"runc": {}},
        },
        "/containers/json?all=1": [
            {
                "Names": ["/nano"],
                "Image": "vllm",
                "State": "running",
                "Labels": {LABEL_SERVICE: "nano"},
            },
            {"Names": None, "Image": "x", "State": "exited", "Labels": None},
        ],
    }  # fmt: skip
    monkeypatch.setattr(docker_preflight, "get", responses.get)
    found = docker_preflight.collect()
    assert (found["driver"], found["runtimes"]) == ("overlay2", ["runc"])
    assert [(one["name"], one["ours"]) for one in found["containers"]] == [("nano", True), ("", False)]


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path.strip("/")))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


def test_any_answer_but_a_failing_server_counts_as_reached(server: str) -> None:
    urls = [f"{server}/{code}" for code in (200, 401, 404, 503)]
    found = reach.collect_reach(urls)
    assert [found[url]["ok"] for url in urls] == [True, True, True, False]
    assert found[urls[3]]["detail"] == "503"


def test_what_is_not_reached_tells_at_which_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "LIMIT_S", 0.2)
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        closed.bind(("127.0.0.1", 0))
        urls = {
            f"http://127.0.0.1:{silent.getsockname()[1]}/": "time",
            f"http://127.0.0.1:{closed.getsockname()[1]}/": "connect",
            "http://no-such-name.invalid/": "dns",
            "nonsense": "connect",
        }
        found = reach.collect_reach(list(urls))
    assert {url: seen["step"] for url, seen in found.items()} == urls
    assert not any(seen["ok"] for seen in found.values())


def test_a_tls_failure_is_reported_as_one(server: str) -> None:
    url = server.replace("http:", "https:") + "/200"
    assert reach.collect_reach([url])[url]["step"] == "tls"


def test_every_part_of_the_preflight_fails_by_itself() -> None:
    def broken(_function: object, *_arguments: object) -> dict[str, object]:
        return {"error": "broken"}

    request: dict[str, Any] = {"urls": [], "programs": [], "directories": []}
    assert all(
        part == {"error": "broken"}
        for part in preflight_look.collect(request, broken, [docker_preflight]).values()
    )
