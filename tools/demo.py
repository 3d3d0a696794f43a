"""The main job from the beginning, as a new user would type it: each command is shown before it runs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PROMPT = "What is 12*17? Answer with the number only."

TRY_NEXT = """\
Try next
  $EDITOR inventories/lab/spark-01.yaml                       change a flag, a model, a port
  .venv/bin/pyinfra inventories/lab.py deploys/serve.py --dry preview the changes, field by field
  .venv/bin/pyinfra inventories/lab.py deploys/serve.py       apply them
  .venv/bin/sparkfleet lab exec spark-01 -- docker ps         list a Spark's containers
  .venv/bin/sparkfleet lab break spark-02 docker-stopped      apply a fault, then plan again
Take it down
  make demo-down
"""


def report(text: str) -> None:
    """Print a heading."""
    print(f"\n--> {text}", flush=True)


def run(*args: str, expect: int = 0) -> None:
    """Show a command and run it; end the demo if the exit code is not the expected one."""
    print(f"$ {shlex.join(args)}", flush=True)
    code = subprocess.run([str(BIN / args[0]), *args[1:]], cwd=ROOT, check=False).returncode
    if code != expect:
        print(
            f"\nThe command above ended with {code} instead of {expect}: the demo stops here.",
            file=sys.stderr,
        )
        print(
            "The lab is still up: .venv/bin/sparkfleet lab status; make demo-down removes it.",
            file=sys.stderr,
        )
        raise SystemExit(1)


def send_prompt(spark: str, port: int) -> None:
    """Send a prompt to the model of a Spark, on the Spark itself, and show the answer."""
    body = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 64, "temperature": 0}
    models = json.loads(curl(spark, f"http://127.0.0.1:{port}/v1/models"))
    body["model"] = models["data"][0]["id"]
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    response = json.loads(curl(spark, url, "-H", "Content-Type: application/json", "-d", json.dumps(body)))
    print(f"  {spark}  {body['model']}: {response['choices'][0]['message']['content'].strip()}")


def curl(spark: str, *args: str) -> str:
    """Return the output of curl on a Spark."""
    command = [str(BIN / "sparkfleet"), "lab", "exec", spark, "--", "curl", "-sS", "--fail", *args]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Start the lab, lock, plan, converge, send prompts, plan again."""
    started = time.monotonic()
    report("A lab of two Sparks: containers with systemd, sshd and their own Docker")
    run("sparkfleet", "lab", "up", "--sparks", "2")
    report("Pin the images and models of inventories/lab/*.yaml: tags to digests, models to commits")
    # --update: a new lab has new digests under the same tags
    run("sparkfleet", "lock", "inventories/lab.py", "--update", "*")
    report("The plan: what a run would change. It changes nothing")
    run("pyinfra", "inventories/lab.py", "deploys/serve.py", "--dry")
    report("Converge")
    run("pyinfra", "inventories/lab.py", "deploys/serve.py", "-y")
    report(f"Send each model a prompt: {PROMPT}")
    send_prompt("spark-01", 8000)
    send_prompt("spark-02", 8000)
    report("The second plan is empty (exit code 0)")
    run("sparkfleet", "plan", "inventories/lab.py")
    print(f"\nDone in {time.monotonic() - started:.0f} s.\n\n{TRY_NEXT}")


if __name__ == "__main__":
    main()
