"""The terms of the project: one term for one idea. docs/reference/glossary.md is generated from them."""

from __future__ import annotations

from collections.abc import Mapping

TERMS: Mapping[str, str] = {
    "blocked": "a change that the plan does not make, with the reason: a conflict, or a missing requirement",
    "candidate": "the new container of a rollout before it has passed the readiness gate",
    "catalog": "the recipes that ship with sparkfleet, plus those in `inventories/<fleet>/recipes/`",
    "cluster": "Sparks that serve one model together over the fabric",
    "companion": "a service that belongs to the fleet but is no engine: a chat page, a gateway, metrics",
    "converge": "apply the plan, so that a second plan is empty",
    "coordinator": "the member of a cluster that decides how a change ends: the head",
    "deploy": "a file in `deploys/` that pyinfra runs: `serve.py`, `prepare.py`, `stage.py`, `fabric.py`, "
    "`verify.py`, `stop.py`, `start.py`, `restart.py`",
    "derived image": "an image built on a Spark from a pinned base and pinned Python wheels",
    "derived packages": "the Python packages that an image lacks and that a derived image adds",
    "diagnostic": "one finding: severity, code, location, message, hint",
    "digest": "the SHA-256 that identifies an image in a registry",
    "drafter": "a small model that proposes tokens for speculative decoding",
    "drift": "a difference between the declared state and the host that somebody else caused",
    "engine": "the program that serves a model",
    "evidence": "logs, inspect data, memory trace and gate transcript kept from a failed start",
    "fabric": "the QSFP (ConnectX-7) links between Sparks",
    "failure pattern": "a line of a log, with the cause and the remedy of the failed start that it shows",
    "fingerprint": "a hash that two sides compare: of what all ranks of a cluster share, or of an approved "
    "plan",
    "fleet": "the Sparks of one inventory",
    "footprint": "what another tool left on a Spark and what may affect a service",
    "gate": "the readiness gate: proof that a service answers. `/health` alone proves nothing",
    "generation": "one configuration of a service that passed its gate and is kept for a rollback",
    "group data": "`sparkfleet = {...}` in `group_data/all.py`: settings of all Sparks",
    "head": "the first host of a cluster; it answers requests",
    "host file": "`inventories/<fleet>/<host>.yaml`: the desired state of one Spark",
    "host state": "what `prepare:` declares: directories, groups, sysctls, files, packages, ...",
    "inventory": "`inventories/<fleet>.py`, the file that pyinfra and every command get; it loads the YAML "
    "files beside it",
    "journal": "the events of a rollout or job, on the Spark, synced before each step",
    "knowledge": "data files about engines: flags of each release, failure patterns, rules' data, recipes. "
    "`sparkfleet knowledge update` replaces them",
    "lab": "Sparks made of containers, for the tutorial and for every end-to-end test",
    "lint rule": "a check of a declaration that knows Sparks and engines; `sparkfleet rules` lists them",
    "lock file": "`inventories/<fleet>/fleet.lock`: tags pinned to digests, models to commits, with sizes "
    "and hashes",
    "login user": "the user of the SSH connection; it owns models and caches",
    "offline mirror": "a directory with the images, models and wheels of a lock file, for Sparks without "
    "Internet access",
    "operation": "one typed step of a plan; it describes itself and is carried out by a run",
    "pin": "fix a tag by its digest, a branch by its commit, a package by its hash: what `sparkfleet lock` "
    "does",
    "plan": "the difference between declared and observed state, field by field",
    "preflight": "the checks of everything that a Spark needs to serve",
    "probe": "the read-only remote command that collects the state of a host",
    "promote": "make the candidate the current generation, after it passed the readiness gate",
    "prune": "remove images, models and caches that nothing in the fleet needs",
    "rail": "one of the two netdevs of a cabled QSFP cage, counted over the cluster",
    "rank": "the position of a Spark in a cluster; rank 0 is the head",
    "recipe": "a known-good deployment of one model: image, flags, environment, requirements, limitations",
    "rendezvous": "the network on which the ranks of a cluster find each other",
    "resource": "one declared item of host state: a directory, a group, a sysctl, a file, a login",
    "revert": "restore what was there before a resource was declared",
    "rollback": "return to the previous generation",
    "rollout": "the transaction that replaces a generation: stop, start, gate, then promote or roll back",
    "runtime": "how an engine's process is contained: a container, or a Python environment under systemd",
    "seed": "the Spark that downloads an image or model and sends it to the others",
    "service": "one served model on one Spark or one cluster",
    "Spark": "one DGX Spark host: GB10, aarch64, CPU and GPU share one memory",
    "stage": "fetch images and weights beforehand, while the current engine serves",
    "supervisor": "the program in a service's unit: adopts the container, restarts within limits, runs the "
    "watchdog",
    "template": "a recipe without a model, for others to extend",
    "unknown": "the state of a host, or a part of it, that could not be read; it is never changed",
    "unmanaged": "not created or fetched by sparkfleet; never changed",
    "user deploy": "your own pyinfra operations, run before sparkfleet's",
    "valve": "the `drop_caches` valve: flushes the page cache, which gives unified memory back before an "
    "engine starts",
    "watchdog": "the part of the supervisor that kills an engine when available memory falls below the "
    "minimum",
}
"""Term -> meaning, as Markdown."""
