"""The main job from nothing, as a newcomer would type it: each command is shown before it runs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
QUESTION = "What is 12*17? Answer with the number only."

TRY_NEXT = """\
Try next
  $EDITOR inventories/lab/spark-01.yaml                   change a flag, a model, a port
  .venv/bin/pyinfra inventories/lab.py deploys/serve.py --dry   see the difference, field by field
  .venv/bin/pyinfra inventories/lab.py deploys/serve.py         converge
  .venv/bin/sparkfleet lab exec spark-01 -- docker ps           look inside
  .venv/bin/sparkfleet lab break spark-02 docker-stopped       break something, and plan again
Take it down
  make demo-down
"""


def report(text: str) -> None:
    """Print a heading."""
    print(f"\n--> {text}", flush=True)


def run(*words: str, expect: int = 0) -> None:
    """Show a command, run it, and end the demo with its exit code when it does not end as expected."""
    print(f"$ {shlex.join(words)}", flush=True)
    code = subprocess.run([str(BIN / words[0]), *words[1:]], cwd=ROOT, check=False).returncode
    if code != expect:
        print(
            f"\nThe command above ended with {code} instead of {expect}: the demo stops here.",
            file=sys.stderr,
        )
        print(
            "The lab is still up: .venv/bin/sparkfleet lab status; make demo-down takes it down.",
            file=sys.stderr,
        )
        raise SystemExit(1)


def ask(spark: str, port: int) -> None:
    """Ask the model of a Spark a question, on the Spark itself, and show its answer."""
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 64, "temperature": 0}
    models = json.loads(curl(spark, f"http://127.0.0.1:{port}/v1/models"))
    body["model"] = models["data"][0]["id"]
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    answer = json.loads(curl(spark, url, "-H", "Content-Type: application/json", "-d", json.dumps(body)))
    print(f"  {spark}  {body['model']}: {answer['choices'][0]['message']['content'].strip()}")


def curl(spark: str, *words: str) -> str:
    """Return what curl says on a Spark."""
    command = [str(BIN / "sparkfleet"), "lab", "exec", spark, "--", "curl", "-sS", "--fail", *words]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Bring the lab up, lock, plan, converge, ask, plan again."""
    began = time.monotonic()
    report("A lab of two Sparks: containers with systemd, sshd and their own Docker")
    run("sparkfleet", "lab", "up", "--sparks", "2")
    report("Pin what inventories/lab/*.yaml names: tags to digests, models to commits")
    # --update: a lab that was built anew has new digests under the same tags
    run("sparkfleet", "lock", "inventories/lab.py", "--update", "*")
    report("The plan: what a run would change. Nothing is changed yet")
    run("pyinfra", "inventories/lab.py", "deploys/serve.py", "--dry")
    report("Converge")
    run("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y")
    report(f"Ask each model: {QUESTION}")
    ask("spark-01", 8000)
    ask("spark-02", 8000)
    report("The second plan is empty, and its exit code says so")
    run("sparkfleet", "plan", "inventories/lab.py")
    print(f"\nDone in {time.monotonic() - began:.0f} s.\n\n{TRY_NEXT}")


if __name__ == "__main__":
    main()
