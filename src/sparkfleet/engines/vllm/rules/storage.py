"""Rules for files and secrets: what the engine reads must be in its container."""

from __future__ import annotations

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.engines.vllm.rules.case import Case, Rule, error, rule

ALWAYS_MOUNTED = ("/models", "/compile-cache")
"""What every container of ours has: the model store and the compile cache."""
_FILES = ("--reasoning-parser-plugin", "--tool-parser-plugin", "--chat-template")


@rule("P-02", "files that flags name are mounted", "dgx-vllm 7.3.1: the plugin file of nano_v3")
def files_mounted(case: Case) -> Diagnostic | None:
    """VLLM ends the start when a plugin or template is not there."""
    for flag in _FILES:
        path = case.text(flag)
        if path.startswith("/") and not _inside(case, path):
            text = f"{flag} {path}: nothing is mounted there"
            return error(text, "add a mount under container.mounts, or put the file into the model directory")
    return None


@rule("H-01", "a gated model needs a token", "dgx-vllm 5, 7.2.1, 7.4.3, 11")
def gated(case: Case) -> Diagnostic | None:
    """And the licence, accepted on the model's page by the token's owner."""
    repos = [weights.repo for weights in (case.service.weights, *case.service.drafters) if weights.gated]
    if not repos or case.host.hf_token:
        return None
    text = f"{' and '.join(repos)}: gated, and no token is declared"
    return error(text, "accept the licence on the model's page, and set hf_token in group_data")


@rule("H-03", "HF_HOME is a mounted directory", "dgx-vllm 3")
def hub_home(case: Case) -> Diagnostic | None:
    """Otherwise the engine looks for its model in an empty directory."""
    home = case.env.get("HF_HOME", "")
    if not home or _inside(case, home):
        return None
    return error(
        f"HF_HOME={home} is no mounted directory", "remove it: sparkfleet sets it to the model store"
    )


@rule("H-04", "a model given as a directory is mounted", "dgx-vllm 7.2.3")
def model_directory(case: Case) -> Diagnostic | None:
    """The drafter of a bundle, too."""
    drafter = str(case.speculative.get("model", ""))
    for path in (case.service.weights.repo, drafter):
        if path.startswith("/") and not _inside(case, path):
            return error(f"the model {path} is not mounted", "add a mount under container.mounts")
    return None


def _inside(case: Case, path: str) -> bool:
    targets = [*ALWAYS_MOUNTED, *(mount.target.rstrip("/") for mount in case.service.container.mounts)]
    return any(path == target or path.startswith(f"{target}/") for target in targets)


RULES: tuple[Rule, ...] = (files_mounted, gated, hub_home, model_directory)
