"""``sparkfleet logs`` and ``ask``: over the connection alone, and nothing of them keeps running."""

from __future__ import annotations

import re
import signal
import time
from typing import Any

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.serving_fleet import converge_fleet

FOLLOWS = "pgrep -f '[s]parkfleet.pyz logs'"


def test_logs_are_read_and_followed_over_the_connection(
    lab: Lab, lab_state: State, tmp_path_factory: Any
) -> None:
    serving = converge_fleet(lab, lab_state, tmp_path_factory.mktemp("logs"), "spark-01")
    fleet, (spark,) = serving.fleet, serving.machines

    def logs(*args: str) -> str:
        return fleet.command("sparkfleet", "logs", "inventories/lab.py", *args).expect(0).out

    last = spark.sh("docker logs --tail 1 nano 2>&1")
    assert logs("spark-01", "-n", "1").strip() == last
    assert all("200 OK" in line for line in logs("spark-01/nano", "--grep", "200 OK").splitlines())
    assert "GET /v1/models" in logs("spark-01/nano", "--since", "1h", "--grep", "v1/models")
    assert "nano serves generation" in logs("spark-01", "--source", "rollout", "-f")
    journal = spark.sh("journalctl -u sparkfleet-nano -o cat -n 1")
    assert journal in logs("spark-01/nano", "--source", "supervisor")

    question = ("ask", "inventories/lab.py", "spark-01/nano", "What is 12*17? Answer with the number only.")
    output = fleet.command("sparkfleet", *question).expect(0)
    assert "204" in output.text
    assert re.search(r"nano: first token after [\d.]+ s(, [\d.]+ tokens/s)?, \d+ tokens in", output.err)
    last = spark.sh("docker logs --tail 1 nano 2>&1")
    assert "POST /v1/chat/completions" in last

    unknown = fleet.command("sparkfleet", "logs", "inventories/lab.py", "spark-01/other").expect(1)
    assert "one of: nano" in unknown.err

    with fleet.start("sparkfleet", "logs", "inventories/lab.py", "spark-01/nano", "-f", "-n", "1") as follows:
        assert follows.stdout is not None
        assert follows.stdout.readline().strip() == last
        spark.sh("curl -sS http://127.0.0.1:8000/v1/models?seen=here")
        assert "seen=here" in follows.stdout.readline()
        assert spark.ok(FOLLOWS)
        follows.send_signal(signal.SIGINT)
        assert follows.wait(timeout=20) == 130
    end = time.monotonic() + 30
    while spark.ok(FOLLOWS) and time.monotonic() < end:
        time.sleep(1)
    assert not spark.ok(FOLLOWS)

    spark.sh("systemctl stop sparkfleet-nano")
    assert "no answer on port 8000" in fleet.command("sparkfleet", *question).expect(1).err
