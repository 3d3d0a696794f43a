"""Ctrl-C while remote work goes on: its code, the hosts that the message names, and what they do then."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

import pytest

from sparkfleet.exit_codes import Code
from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.fleet import BIN, FleetDirectory
from tests.lab.machine import Machine
from tests.lab.on_host import HostPrograms
from tests.lab.serving_fleet import ServingFleet, converge_fleet

LIMIT_S = 120
"""Seconds to wait for something that must happen without help; a limit, not a measurement."""
SLOW = """
cat > /usr/local/sbin/install <<'END'
#!/bin/sh
touch /run/begun; sleep 3; exec /usr/bin/install "$@"
END
chmod +x /usr/local/sbin/install; rm -f /run/begun /usr/local/bin/spark-valve
"""
"""Makes the first command of the preparation of a host slow."""


@pytest.fixture(scope="module")
def serving(lab: Lab, lab_state: State, tmp_path_factory: pytest.TempPathFactory) -> ServingFleet:
    """spark-01, converged."""
    return converge_fleet(lab, lab_state, tmp_path_factory.mktemp("ctrl-c"), "spark-01")


def interrupted(
    fleet: FleetDirectory, deploy: str, text: str, begun: Callable[[], object] = lambda: None
) -> list[str]:
    """Run a deploy, press Ctrl-C after it has printed a text; return what it printed."""
    lines: list[str] = []
    sent = False
    with fleet.start("pyinfra", "inventories/lab.py", f"deploys/{deploy}.py", "-y") as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if text in line and not sent:
                sent = True
                begun()
                os.killpg(process.pid, signal.SIGINT)
    assert process.returncode == Code.INTERRUPTED, "\n".join(lines)
    assert "Traceback" not in "\n".join(lines)
    return lines


def wait(machine: Machine, condition: str) -> None:
    machine.sh(f"timeout {LIMIT_S} sh -c 'until {condition}; do sleep 0.2; done'")


def test_a_fetch_continues_on_the_spark_that_is_named(serving: ServingFleet) -> None:
    (spark,) = serving.machines
    blob = spark.sh("find /home/nvidia/vllm/hub -name '*.safetensors' -exec readlink -f {} + | head -1")
    spark.sh(f"rm {blob}")
    last = interrupted(serving.fleet, "stage", "fetch download")[-1]
    assert last.startswith("interrupted: what has begun continues on spark-01 (fetch")
    wait(spark, f"test -e {blob}")
    HostPrograms(spark).wait("for d in /var/lib/sparkfleet/jobs/*/; do test -e $d/result.json; done", LIMIT_S)
    assert serving.fleet.plan().expect(0).out.startswith("spark-01   no changes\n")


def test_the_preparation_of_a_host_continues_on_the_spark_that_is_named(serving: ServingFleet) -> None:
    (spark,) = serving.machines
    spark.sh(SLOW)
    try:
        last = interrupted(serving.fleet, "prepare", "executing", lambda: wait(spark, "test -e /run/begun"))[
            -1
        ]
        assert last.startswith("interrupted: what has begun continues on spark-01 (host)")
        wait(spark, "test -x /usr/local/bin/spark-valve")
    finally:
        spark.sh("rm /usr/local/sbin/install")
    assert serving.fleet.plan().expect(0).out.startswith("spark-01   no changes\n")


def test_a_command_of_the_users_own_deploy_continues_on_the_spark_that_is_named(
    serving: ServingFleet,
) -> None:
    (spark,) = serving.machines
    path = serving.fleet.root / "inventories" / "lab" / "user_deploy.py"
    path.write_text(
        "from pyinfra.operations import server\n"
        "server.shell(name='Slow', commands=['touch /tmp/begun; sleep 3; touch /tmp/done'])\n"
    )
    try:
        lines = interrupted(
            serving.fleet, "prepare", "Starting operation", lambda: wait(spark, "test -e /tmp/begun")
        )
    finally:
        path.unlink()
    assert lines[-1].startswith("interrupted: what has begun continues on spark-01 (user_deploy.py | Slow)")
    wait(spark, "test -e /tmp/done")


def test_a_reader_that_leaves_does_not_end_a_change(serving: ServingFleet) -> None:
    serving.set("spark-01", max_model_len=65536)
    command = '"$1" inventories/lab.py deploys/serve.py -y | head -3; exit ${PIPESTATUS[0]}'
    done = subprocess.run(
        ["bash", "-c", command, "-", str(BIN / "pyinfra")],
        cwd=serving.fleet.root,
        env=serving.fleet.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert "nano   http://spark-01:8000/v1   serves, gate passed" in done.stderr
    assert "65536" in serving.machines[0].sh("docker inspect -f '{{.Args}}' nano")
    assert HostPrograms(serving.machines[0]).serves()
    serving.fleet.plan().expect(0)
