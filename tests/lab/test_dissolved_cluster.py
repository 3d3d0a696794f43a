"""A cluster that is dissolved into single services, one of which fails: a rank alone does not serve."""

from __future__ import annotations

import re
from pathlib import Path

from sparkfleet_lab.names import Lab
from sparkfleet_lab.state import State
from tests.lab.pairs import empty_pair
from tests.lab.serving_fleet import nano


def test_a_rank_of_a_dissolved_cluster_that_returns_is_not_called_serving(
    lab: Lab, lab_state: State, tmp_path: Path
) -> None:
    pair = empty_pair(lab, lab_state, tmp_path)
    pair.declare()
    pair.fleet.lock()
    pair.fleet.run().expect(0)
    pair.file.unlink()
    pair.fleet.host("spark-01", nano())
    pair.fleet.host("spark-02", nano(env={"LAB_ENGINE": "crash-after-load"}))
    outcome = pair.fleet.run().expect(1)
    head, member = pair.machines
    assert head.ok("curl -sf -m 5 http://127.0.0.1:8000/v1/models")
    assert not member.ok("curl -sf -m 5 http://127.0.0.1:8000/v1/models")
    closing = outcome.err[outcome.err.index("spark-02   FAILED") :]
    assert "the engine ended with exit code 1" in closing
    assert (
        "wide: warning: restarted, but nothing proves that it answers: rank 1 of the cluster pair" in closing
    )
    assert "serves again" not in outcome.text
    assert re.search(r"spark-01 +nano +http\S+ +serves, gate passed", outcome.err)
