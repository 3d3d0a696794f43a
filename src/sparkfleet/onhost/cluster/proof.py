"""Answers that only the other ranks of a cluster can have given: signed with the key that they share.

The key is that of the rollout that made them: it came over SSH and is never sent from here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import Any, TypeVar

from sparkfleet.contract.cluster import PeerQuery
from sparkfleet.contract.codec import ContractError, Document

PROOF = "proof"
D = TypeVar("D", bound=Document)


def query(ask: str, swap: str = "") -> PeerQuery:
    """Return a query whose answer is good for nothing else."""
    return PeerQuery(ask, swap, secrets.token_hex(16))


def signed(answer: Document, key: str, asked: PeerQuery) -> dict[str, Any]:
    """Return an answer with its proof; as it is where there is no key, or nothing to prove it for."""
    data = answer.to_json()
    return {**data, PROOF: _digest(data, key, asked.nonce)} if key and asked.nonce else data


def proven(kind: type[D], answer: dict[str, Any] | None, key: str, asked: PeerQuery) -> D | None:
    """Return an answer; None: no answer, none of this kind, or not signed with the key that there is."""
    if answer is None:
        return None
    data = {name: value for name, value in answer.items() if name != PROOF}
    if key:
        digest = _digest(data, key, asked.nonce)
        if not hmac.compare_digest(str(answer.get(PROOF, "")).encode(), digest.encode()):
            return None
    try:
        return kind.from_json(data)
    except ContractError:
        return None


def _digest(answer: dict[str, Any], key: str, nonce: str) -> str:
    text = json.dumps([nonce, answer], sort_keys=True, separators=(",", ":"))
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
