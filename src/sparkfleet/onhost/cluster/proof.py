"""Responses of the ranks of a cluster are signed with the key that they share.

It is the key of the rollout that created the ranks and came over SSH. Supervisors never send it; during a
rollout, the members show it to the head (``MemberMessage``).
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


def new_query(subject: str, rollout: str = "") -> PeerQuery:
    """Return a query with a nonce, so that a response cannot be replayed for another query."""
    return PeerQuery(subject, rollout, secrets.token_hex(16))


def sign(response: Document, key: str, query: PeerQuery) -> dict[str, Any]:
    """Return a response with its signature; unchanged without a key or nonce."""
    data = response.to_json()
    return {**data, PROOF: _digest(data, key, query.nonce)} if key and query.nonce else data


def verify(kind: type[D], response: dict[str, Any] | None, key: str, query: PeerQuery) -> D | None:
    """Return a response; None: no response, another type, or not signed with the key."""
    if response is None:
        return None
    data = {name: value for name, value in response.items() if name != PROOF}
    if key:
        digest = _digest(data, key, query.nonce)
        if not hmac.compare_digest(str(response.get(PROOF, "")).encode(), digest.encode()):
            return None
    try:
        return kind.from_json(data)
    except ContractError:
        return None


def _digest(response: dict[str, Any], key: str, nonce: str) -> str:
    text = json.dumps([nonce, response], sort_keys=True, separators=(",", ":"))
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
