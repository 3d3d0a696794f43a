"""Text of the systemd units. Pure: the plan compares it with what is on the Spark.

- ``Wants`` the runtime's daemon, not ``Requires``: with ``Requires`` an upgrade of Docker (stop, later start)
  would stop the engine for good. The supervisor waits for dockerd and starts the container again.
- Three starts within an hour, then the unit stays down until a manual start: an engine that fails at each
  start must never take the Spark off the network. That limit is systemd's and ends at boot; the supervisor
  keeps the same limit on disk for starts that ended with a crash of the whole Spark.
- ``Type=notify``: started means that the supervisor runs the container (or waits for dockerd).
- ``KillMode=mixed``: systemd's SIGTERM goes to the supervisor, which stops the container. The container
  belongs to dockerd and is in no unit of sparkfleet.
- ``OOMPolicy=continue``: a supervisor that reached ``MemoryMax`` is restarted and adopts its engine. By
  default systemd would stop the unit, and the engine with it, if only its watchdog process was killed.
"""

from __future__ import annotations

from collections.abc import Sequence

from sparkfleet.onhost.machine.memory_max import ROLLOUT_MIB, SUPERVISOR_MIB, memory_max
from sparkfleet.onhost.machine.system import PROGRAM
from sparkfleet.onhost.state.store import check_service

MARK = "# Written by sparkfleet."
"""First line of every file that sparkfleet writes: a file without it is not managed by sparkfleet."""

PYTHON = f"/usr/bin/python3 -I -B {PROGRAM}"
RECOVER = "sparkfleet-recover.service"
REFUSED = 78
"""Exit code of a supervisor that must not be restarted (EX_CONFIG)."""
ADOPT_AGAIN = 75
"""Exit code of a supervisor that left its engine running on purpose (EX_TEMPFAIL)."""
MAX_STARTS = 3
WITHIN_S = 3600


def unit_name(service: str) -> str:
    """Return the name of a service's unit."""
    return f"sparkfleet-{service}.service"


def service_unit(
    service: str, description: str, floor_mib: int, stop_timeout_s: int, daemons: Sequence[str] = ()
) -> str:
    """Return the unit of a service.

    ``floor_mib`` is for the watchdog, ``stop_timeout_s`` for the engine; ``daemons`` are the runtime's units.
    """
    check_service(service)
    text = " ".join(description.replace("%", "%%").split())
    return f"""\
{MARK} Changes made here by hand are shown by the plan and reverted.
[Unit]
Description={text}
{_ordered(daemons, RECOVER)}StartLimitIntervalSec={WITHIN_S}
StartLimitBurst={MAX_STARTS}

[Service]
Type=notify
ExecStartPre=-{PYTHON} valve --unless-running {service}
ExecStart={PYTHON} supervise {service} --floor-mib {floor_mib} --stop-timeout {stop_timeout_s}
Restart=on-failure
RestartSec=10
RestartPreventExitStatus={REFUSED}
TimeoutStartSec=300
TimeoutStopSec={stop_timeout_s + 60}
KillMode=mixed
NotifyAccess=main
OOMScoreAdjust=-900
{memory_max(SUPERVISOR_MIB)}
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
"""


def recover_unit(daemons: Sequence[str] = ()) -> str:
    """Return the unit that finishes an interrupted rollout at boot, before any service starts.

    ``daemons`` are the units of all runtimes.
    """
    return f"""\
{MARK}
[Unit]
Description=sparkfleet: finish what a reboot interrupted
{_ordered(daemons)}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={PYTHON} recover
Restart=on-failure
RestartSec=10
TimeoutStartSec=900
{memory_max(ROLLOUT_MIB)}

[Install]
WantedBy=multi-user.target
"""


def _ordered(daemons: Sequence[str], *names: str) -> str:
    """Return the lines that start a unit after the runtime's daemons, which it wants, and after ``names``."""
    after = " ".join((*daemons, *names))
    return (f"After={after}\n" if after else "") + (f"Wants={' '.join(daemons)}\n" if daemons else "")


def valve_script() -> str:
    """Return /usr/local/bin/spark-valve."""
    return f"""\
#!/bin/sh
{MARK}
exec {PYTHON} valve "$@"
"""
