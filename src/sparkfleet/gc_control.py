"""Suspends Python's cyclic garbage collection while a plan is computed.

It repeatedly scans every object that imports and probes have created, and finds almost nothing: a fifth of
the CPU of a plan of 200 Sparks, to save 3 of 80 MiB.
"""

from __future__ import annotations

import atexit
import gc


def pause() -> None:
    """Search no more, neither later nor when the program ends, until ``resume``."""
    if gc.isenabled():
        gc.disable()
        atexit.register(gc.freeze)


def resume() -> None:
    """Collect again, but without existing objects: for what goes on for long."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
