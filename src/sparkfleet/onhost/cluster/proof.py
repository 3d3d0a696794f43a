"""Responses of the other ranks of a cluster are signed with the key that they share.

The key is that of the rollout that created the ranks: it came over SSH and is never sent over the fabric.
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
    """Return a query with a nonce: its response answers no other query."""
    return PeerQuery(ask, swap, secrets.token_hex(16))


def signed(answer: Document, key: str, asked: PeerQuery) -> dict[str, Any]:
    """Return a response with its proof; unchanged without a key or nonce."""
    data = answer.to_json()
    return {**data, PROOF: _digest(data, key, asked.nonce)} if key and asked.nonce else data


def proven(kind: type[D], answer: dict[str, Any] | None, key: str, asked: PeerQuery) -> D | None:
    """Return a response; None: no response, another kind, or not signed with the key."""
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
