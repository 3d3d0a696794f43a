"""The table of drift: manual changes on a Spark, and the rows that a plan has for each."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from tests.lab.shared_spark import Row

UNIT = "sparkfleet-nano.service"
UNITS = "/etc/systemd/system"
SNAPSHOTS = "/home/nvidia/vllm/hub/models--nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4/snapshots/*"
CACHE = "/home/nvidia/vllm-compile-cache"
ANY = "..."
"""Stands for a text that differs every time: a hash, an id."""


@dataclass(frozen=True)
class Drift:
    """A manual change as root, and the plan's rows for it."""

    command: str
    rows: tuple[Row, ...]


IN_PLACE: Mapping[str, Drift] = {
    "unit edited": Drift(
        f"sed -i s/RestartSec=10/RestartSec=1/ {UNITS}/{UNIT}; systemctl daemon-reload",
        (("unit", f"{UNIT} RestartSec", "1", "10"),),
    ),
    "unit disabled": Drift(
        f"systemctl disable -q {UNIT}",
        (("unit", UNIT, "disabled", "enabled"),),
    ),
    "drop-in added": Drift(
        f"mkdir {UNITS}/{UNIT}.d; printf '[Service]\\nRestart=no\\n' > {UNITS}/{UNIT}.d/by-hand.conf; "
        "systemctl daemon-reload",
        (("drop-in", f"{UNITS}/{UNIT}.d/by-hand.conf", "", ""),),
    ),
    "weights file deleted": Drift(
        f"rm {SNAPSHOTS}/config.json",
        (("weights", "config.json", "", ANY),),
    ),
    "weights content deleted": Drift(
        f"rm $(realpath {SNAPSHOTS}/tokenizer.json)",
        (("weights", "tokenizer.json", "link to nothing", ANY),),
    ),
    "weights file truncated": Drift(
        f"truncate -s 1000 $(realpath {SNAPSHOTS}/model-00002-of-00003.safetensors)",
        (("weights", "model-00002-of-00003.safetensors", "partial, 1000 of 1500248 bytes", ANY),),
    ),
    "weights file exchanged": Drift(
        f"cd {SNAPSHOTS}; cp --remove-destination -d model-0000[13]-of-00003.safetensors",
        (("weights", "model-00003-of-00003.safetensors", "unexpected, not part of this commit", ANY),),
    ),
    "valve edited": Drift(
        "echo 'echo by hand' >> /usr/local/bin/spark-valve",
        (("valve", "/usr/local/bin/spark-valve", ANY, ANY),),
    ),
    "program deleted": Drift(
        "rm /usr/local/lib/sparkfleet/sparkfleet.pyz",
        (("programs", "/usr/local/lib/sparkfleet/sparkfleet.pyz", "", ""),),
    ),
    "recovery disabled": Drift(
        "systemctl disable -q sparkfleet-recover.service",
        (("unit", "sparkfleet-recover.service", "disabled", "enabled"),),
    ),
    "recovery edited": Drift(
        f"echo '# by hand' >> {UNITS}/sparkfleet-recover.service; systemctl daemon-reload",
        (("unit", f"{UNITS}/sparkfleet-recover.service", ANY, ANY),),
    ),
    "directory's owner changed": Drift(
        f"chown root:root {CACHE}",
        (("owner", "~/vllm-compile-cache", "root:root", "nvidia:nvidia"),),
    ),
    "directory's mode changed": Drift(
        "chmod 0700 /home/nvidia/vllm",
        (("mode", "~/vllm", "0700", "0755"),),
    ),
}
"""Drift that is repaired while the engine keeps serving. All entries can happen at once."""

IN_PLACE_ALONE: Mapping[str, Drift] = {
    "unit deleted": Drift(
        f"rm {UNITS}/{UNIT}; systemctl daemon-reload",
        (("unit", UNIT, "", "enabled"),),
    ),
    "valve's mode changed": Drift(
        "chmod 0700 /usr/local/bin/spark-valve",
        (("valve", "/usr/local/bin/spark-valve", "0700 root", "0755 root"),),
    ),
    "unit for this boot alone": Drift(
        f"mkdir -p /run/systemd/system/{UNIT}.d; printf '[Service]\\nRestartSec=99\\n' "
        f"> /run/systemd/system/{UNIT}.d/by-hand.conf; systemctl daemon-reload",
        (("drop-in", f"/run/systemd/system/{UNIT}.d/by-hand.conf", "", ""),),
    ),
    "record deleted": Drift(
        "rm /var/lib/sparkfleet/services/nano/current.json",
        (("record", "/var/lib/sparkfleet/services/nano/current.json", "", ""),),
    ),
    "a limit set by systemctl": Drift(
        f"systemctl set-property {UNIT} MemoryMax=8G",
        (("drop-in", f"/etc/systemd/system.control/{UNIT}.d/50-MemoryMax.conf", "", ""),),
    ),
}
"""More drift of this kind; these entries cannot be combined with others."""


def recreate_by_hand(*, options: str = "", args: str = "", replacement: tuple[str, str] = ("", "")) -> str:
    """Return a command that recreates the container by hand: other options, further arguments."""
    script = f"""
import json, subprocess
definition = json.load(open("/var/lib/sparkfleet/services/nano/current.json"))["definition"]
args = [arg.replace(*{replacement!r}) if {replacement!r}[0] else arg for arg in definition] + {args!r}.split()
subprocess.run(["docker", "rm", "-f", "nano"], check=True)
subprocess.run(["docker", "run", "-d", "--name", "nano", *{options!r}.split(), *args], check=True)
"""
    return f"python3 -c {shlex.quote(script)}"


RECREATED_ID: Row = ("container", "id", ANY, ANY)

RECREATED: Mapping[str, Drift] = {
    "stopped": Drift(f"systemctl stop {UNIT}", (("state", "", "exited", "serving"),)),
    "recreated with another variable and an extra flag": Drift(
        recreate_by_hand(options="--env BY_HAND=1", args="--enforce-eager"),
        (("env", "BY_HAND", "1", ""), ("flag", "--enforce-eager", "true", ""), RECREATED_ID),
    ),
    "docker update of memory and restart policy": Drift(
        "docker update --memory 2g --memory-swap 2g --restart always nano",
        (("container", "memory limit", str(2 << 30), ""), ("container", "restart", "always", "no")),
    ),
}
"""Drift whose repair needs a new container."""

MORE_RECREATED: Mapping[str, Drift] = {
    "recreated with another variable": Drift(
        recreate_by_hand(options="--env BY_HAND=1"), (("env", "BY_HAND", "1", ""), RECREATED_ID)
    ),
    "recreated with an extra flag": Drift(
        recreate_by_hand(args="--enforce-eager"), (("flag", "--enforce-eager", "true", ""), RECREATED_ID)
    ),
    "recreated with another value": Drift(
        recreate_by_hand(replacement=("262144", "65536")),
        (("flag", "--max-model-len", "65536", "262144"), RECREATED_ID),
    ),
    "recreated with the same arguments, spelled in another way": Drift(
        recreate_by_hand(replacement=("--max-num-seqs", "--max_num_seqs"), args="--max-model-len=262144"),
        (RECREATED_ID,),
    ),
    "recreated with another mount": Drift(
        recreate_by_hand(options="-v /usr/share/doc:/doc:ro"),
        (("mount", "/doc", "/usr/share/doc:/doc:ro", ""), RECREATED_ID),
    ),
    "docker update of memory": Drift(
        "docker update --memory 2g --memory-swap 2g nano", (("container", "memory limit", str(2 << 30), ""),)
    ),
    "docker update of processors": Drift(
        "docker update --cpus 1 nano", (("container", "NanoCpus", "1000000000", ""),)
    ),
    "paused": Drift("docker pause nano", (("state", "", "paused", "serving"),)),
    "stopped and disabled": Drift(
        f"systemctl disable -q --now {UNIT}",
        (("state", "", "exited", "serving"), ("unit", UNIT, "disabled", "enabled")),
    ),
}
"""More drift of this kind, for the full run."""
