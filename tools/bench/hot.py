"""The controller's CPU by function: ``python -m tools.bench.hot INVENTORY`` profiles ``sparkfleet plan``.

Time is each function's own CPU time, summed by package and by function.
(Sums along the call tree mean little with hundreds of greenlets.)
"""

from __future__ import annotations

import cProfile
import json
import pstats
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_IMPORT = "import"
_LOADING = ("marshal.loads", "create_dynamic")
_OF_PYTHON = {"built in", "standard library"}

Function = tuple[str, int, str]
"""File, line and name, as in the profile."""


def package_of(file: str, name: str) -> str:
    """Return the package of a function. Loading of modules counts as one package; code that runs during an
    import, including the creation of classes, belongs to the module's package.
    """
    if "importlib" in file or any(word in name for word in _LOADING):
        return _IMPORT
    package = _package(file)
    return f"{_IMPORT} {package}" if name == "<module>" else package


def _package(file: str) -> str:
    parts = Path(file).parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1].removesuffix(".py")
    if "sparkfleet" in parts:
        return "sparkfleet." + parts[-2] if parts[-2] != "sparkfleet" else "sparkfleet"
    return "built in" if file == "~" else "standard library"


def attribute_to_callers(stats: dict[Function, Any]) -> dict[Function, float]:
    """Return the CPU time of each function; that of the standard library is attributed to its callers."""
    spent = {function: own for function, (_, _, own, _, _) in stats.items()}
    for _ in range(20):  # as deep as calls inside the standard library go
        shifted = dict.fromkeys(spent, 0.0)
        for function, (_, _, _, _, callers) in stats.items():
            known = {caller: max(1, times[0]) for caller, times in callers.items() if caller in spent}
            if package_of(function[0], function[2]) not in _OF_PYTHON or not known:
                shifted[function] += spent[function]
                continue
            calls = sum(known.values())
            for caller, count in known.items():
                shifted[caller] += spent[function] * count / calls
        spent = shifted
    return spent


def largest_shares(spent: Mapping[str, float], whole: float) -> dict[str, float]:
    """Return the twelve largest as shares of the whole."""
    ranked = sorted(spent.items(), key=lambda item: -item[1])[:12]
    return {name: value / whole for name, value in ranked}


def main() -> None:
    """Run the plan under the profiler; print JSON: seconds, shares by package, the largest functions."""
    sys.argv = ["sparkfleet", "plan", *sys.argv[1:]]
    profile = cProfile.Profile(time.process_time)
    began = time.process_time()
    profile.enable()
    try:
        from sparkfleet.cli import main as cli  # noqa: PLC0415

        cli()
    except SystemExit:
        pass
    profile.disable()
    spent = time.process_time() - began
    packages: dict[str, float] = defaultdict(float)
    functions: dict[str, float] = defaultdict(float)
    for (file, line, name), own in attribute_to_callers(pstats.Stats(profile).stats).items():  # type: ignore[attr-defined]
        packages[package_of(file, name)] += own
        functions[f"{package_of(file, name)}: {Path(file).name}:{line} {name}"] += own
    whole = sum(packages.values())
    result = {
        "cpu_s": spent,
        "packages": largest_shares(packages, whole),
        "functions": largest_shares(functions, whole),
    }
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
