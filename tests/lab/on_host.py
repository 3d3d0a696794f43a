"""The programs on a Spark of the lab, called without operator and plan, by their own contract."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkfleet import zipapp
from sparkfleet.contract.generation import LABEL_SERVICE, Gate, Generation, RolloutRequest
from sparkfleet.onhost.machine.system import PROGRAM
from sparkfleet.onhost.state import units
from sparkfleet_lab.standins.hub_models import MODELS, make_cache
from tests.lab.machine import Machine

RUN = f"/usr/bin/python3 -I -B {PROGRAM}"
MODEL = next(model for model in MODELS if "Nemotron" in model.repo)
DAEMONS = ("docker.service",)
IMAGES = {"26.04": "nvcr.io/nvidia/vllm:26.04-py3", "26.05": "nvcr.io/nvidia/vllm:26.05-py3"}


@dataclass(frozen=True)
class HostPrograms:
    """A machine with programs and weights, without any service."""

    machine: Machine

    @staticmethod
    def install(machine: Machine) -> HostPrograms:
        """Install programs, recovery unit and weights on a fresh machine."""
        with tempfile.TemporaryDirectory() as folder:
            make_cache(Path(folder) / "vllm", (MODEL,))
            (Path(folder) / "sparkfleet.pyz").write_bytes(zipapp.build())
            machine.sh("mkdir -p /usr/local/lib/sparkfleet /var/lib/sparkfleet")
            target = f"{machine.container}:/home/nvidia/vllm"
            machine.docker.run("cp", f"{folder}/vllm/.", target)
            machine.docker.run("cp", f"{folder}/sparkfleet.pyz", f"{machine.container}:{PROGRAM}")
        machine.sh(f"cat > /etc/systemd/system/{units.RECOVER}", stdin=units.recover_unit(DAEMONS))
        machine.sh(f"systemctl daemon-reload; systemctl enable --now {units.RECOVER}")
        return HostPrograms(machine)

    def generation(
        self,
        service: str = "nano",
        image: str = "26.04",
        *,
        engine: str = "",
        flags: tuple[str, ...] = (),
        env: tuple[str, ...] = (),
        **changes: Any,
    ) -> Generation:
        """Return a generation; ``engine`` is a fault of the stand-in."""
        port = int(changes.pop("port", 8000))
        floor = int(changes.pop("floor_mib", 200))
        reference = self.machine.image(IMAGES[image])
        args = ["vllm", "serve", MODEL.repo, "--served-model-name", service, "--port", str(port), *flags]
        options = ["--label", f"{LABEL_SERVICE}={service}", "--network", "host", "--ipc", "host"]
        options += ["--gpus", "all", "--mount", "type=bind,source=/home/nvidia/vllm,target=/models"]
        variables = (
            "HF_HOME=/models",
            "HF_HUB_OFFLINE=1",
            *((f"LAB_ENGINE={engine}",) if engine else ()),
            *env,
        )
        for entry in variables:
            options += ["--env", entry]
        return Generation(
            service=service, image=reference, model=MODEL.repo, revision=MODEL.commit(MODEL.commits[-1]),
            served_name=service, port=port, definition=(*options, reference, *args),
            unit=units.service_unit(service, f"{service} serving {MODEL.repo}", floor, 10, DAEMONS),
            engine="vllm", runtime="docker", floor_mib=floor, stop_timeout_s=10,
            gate=changes.pop("gate", Gate(timeout_s=40, second_timeout_s=4)), **changes,
        )  # fmt: skip

    def request_rollout(self, candidate: Generation | None, *replaces: str, **more: Any) -> str:
        """Start a rollout; return its id."""
        request = RolloutRequest(f"t-{uuid.uuid4().hex[:8]}", candidate, replaces, **more)
        response = self.machine.sh(f"{RUN} rollout", stdin=json.dumps(request.to_json()))
        assert json.loads(response)["rollout"] == request.id
        return request.id

    def follow(self, rollout_id: str, limit_s: float = 120) -> list[dict[str, Any]]:
        """Return all events of a rollout once it has ended, the last with the fields of its result."""
        events: list[dict[str, Any]] = []
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            text = self.machine.sh(f"{RUN} follow {rollout_id} --since {len(events)} --wait 10", check=False)
            events += [json.loads(line) for line in text.splitlines() if '"stalled"' not in line]
            if events and events[-1]["kind"] == "result":
                return [*events[:-1], {**events[-1], **events[-1].get("result", {})}]
        raise AssertionError(f"rollout {rollout_id} has no result after {limit_s} s: {events[-5:]}")

    def roll_out(self, candidate: Generation | None, *replaces: str, **more: Any) -> dict[str, Any]:
        """Run a rollout; return its result."""
        return self.follow(self.request_rollout(candidate, *replaces, **more))[-1]

    def wait_for_step(self, rollout_id: str, step: str, limit_s: float = 60) -> None:
        """Return when a rollout's step has begun."""
        self.wait(
            f'grep -q \'"step": "{step}"\' /var/lib/sparkfleet/rollouts/{rollout_id}/events.jsonl', limit_s
        )

    def wait(self, command: str, limit_s: float = 60) -> None:
        """Return when a command succeeds on the machine."""
        deadline = time.monotonic() + limit_s
        while not self.machine.ok(command):
            assert time.monotonic() < deadline, f"never true within {limit_s} s: {command}"
            time.sleep(0.2)

    def serves(self, name: str = "nano", port: int = 8000) -> bool:
        """Return whether the engine answers a completion under that name."""
        body = json.dumps({"model": name, "messages": [{"role": "user", "content": "What is 12*17?"}]})
        command = f"curl -sf -m 5 -H 'Content-Type: application/json' -d @- http://127.0.0.1:{port}/v1/chat/completions"
        return "204" in self.machine.sh(command, stdin=body, check=False)

    def inspect(self, name: str = "nano") -> dict[str, Any]:
        """Return ``docker inspect`` of a container."""
        found: dict[str, Any] = json.loads(self.machine.sh(f"docker inspect {name}"))[0]
        return found

    def containers(self) -> list[str]:
        """Return the names of all containers."""
        return sorted(self.machine.sh("docker ps -a --format '{{.Names}}'").split())
