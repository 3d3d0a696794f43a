"""A fleet's own deploy file: its operations are rows of the same report in every plan."""

from __future__ import annotations

from tests.lab.fleet import FleetDirectory
from tests.lab.machine import Machine

USER_DEPLOY = """\
from io import StringIO

from pyinfra import host
from pyinfra.operations import files, server

files.put(name="Message of the day", src=StringIO("of the user deploy\\n"), dest="/etc/motd", _sudo=True)
if host.name == "spark-01":
    server.group(name="Group of the lab", group="labgroup", _sudo=True)
"""
EMPTY = "spark-01   no changes\n0 to change, 1 unchanged\n"
PLAN = """\
spark-01   user_deploy.py                                          prepare
  ~ operation   Message of the day
  ~ operation   Group of the lab
1 to change, 0 unchanged
"""


def test_operations_of_the_fleets_own_file_are_planned_and_applied_once(
    fleet: FleetDirectory, spark: Machine
) -> None:
    fleet.host("spark-01", {})
    path = fleet.root / "inventories" / "lab" / "user_deploy.py"
    path.write_text(USER_DEPLOY)
    assert fleet.plan().expect(2).out == PLAN
    assert PLAN in fleet.dry().expect(0).out
    assert not spark.ok("test -e /etc/motd")
    assert PLAN in fleet.run(deploy="prepare").expect(0).out
    assert spark.sh("cat /etc/motd; getent group labgroup").startswith("of the user deploy\nlabgroup:")
    assert fleet.plan().out == EMPTY
    assert EMPTY in fleet.run().expect(0).out

    # Rows of our own come after it, and what it did does not count as a change "since the plan was shown".
    spark.sh("rm /etc/motd")
    fleet.host("spark-01", {"prepare": {"sysctls": {"net.core.somaxconn": 1234}}})
    both = fleet.run(deploy="prepare").expect(0).out
    assert both.index("Message of the day") < both.index("net.core.somaxconn")
    assert spark.sh("cat /etc/motd /proc/sys/net/core/somaxconn") == "of the user deploy\n1234"

    # A failure is repeated last, with its host; what cannot be prepared is unknown and changes nothing.
    path.write_text('from pyinfra.operations import server\nserver.shell(name="Fails", commands=["false"])\n')
    closing = fleet.run(deploy="prepare").expect(1).err
    assert "spark-01   FAILED\nspark-01: user_deploy.py | Fails: failed" in closing
    path.write_text("from pyinfra.operations import nothing_of_the_kind\n")
    broken = fleet.plan().expect(1).out
    assert "unknown: ImportError: cannot import name 'nothing_of_the_kind'" in broken
    assert "fix the file" in broken
