"""Answers that only the other ranks of a cluster can have given: signed with what they share.

What they share is the token of the change that made them: it came over SSH and is never sent from here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import Any

NONCE, PROOF = "nonce", "proof"


def question(message: dict[str, Any]) -> dict[str, Any]:
    """Return a question whose answer is good for nothing else."""
    return {**message, NONCE: secrets.token_hex(16)}


def signed(answer: dict[str, Any], token: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with its proof; as it is where there is no token, or nothing to prove it for."""
    nonce = asked.get(NONCE)
    return {**answer, PROOF: _digest(answer, token, nonce)} if token and isinstance(nonce, str) else answer


def proven(answer: dict[str, Any] | None, token: str, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Return an answer without its proof; None: no answer, or not signed with the token that there is."""
    if answer is None:
        return None
    said = {key: value for key, value in answer.items() if key != PROOF}
    if not token:
        return said
    digest = _digest(said, token, str(asked[NONCE]))
    return said if hmac.compare_digest(str(answer.get(PROOF, "")).encode(), digest.encode()) else None


def _digest(answer: dict[str, Any], token: str, nonce: str) -> str:
    text = json.dumps([nonce, answer], sort_keys=True, separators=(",", ":"))
    return hmac.new(token.encode(), text.encode(), hashlib.sha256).hexdigest()
