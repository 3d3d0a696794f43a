"""A hub for synthetic models: the part of the Hugging Face Hub's HTTP API that downloads and look-ups use.

    python3 -m hub --root DIR --port 80

``DIR/<org>/<name>/<commit>/...`` has the files of a commit; ``DIR/<org>/<name>/meta.json`` has its metadata:
 ``{"refs": {"main": commit}, "gated": false}``. ``DIR/tokens.json`` maps each known token to
``{"name": user, "accepted": [repositories whose licence that user accepted]}``.

Faults can be changed while it runs: ``POST /__lab__/fault`` with one fault (or ``{}`` for none), see
``faults.py``; ``GET /__lab__/counters`` returns the counted requests, ``POST /__lab__/reset`` resets them.
Standard library alone: it runs in a container of its own.
"""

from .faults import Fault
from .server import Hub

__all__ = ["Fault", "Hub"]
