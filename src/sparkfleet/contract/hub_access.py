"""Checks before a download whether a token may read a model.

The hub refuses a gated model for reasons that look alike in its responses and have different remedies.
The lock and the programs on a Spark use the same messages.
"""

from __future__ import annotations

import enum
import http.client
import threading
import urllib.request
from collections.abc import Mapping
from contextlib import suppress

from sparkfleet.contract.diagnostic import Diagnostic

HUB = "https://huggingface.co"
REFUSED = "hub-refused"
"""Code: the hub would answer the same to every host."""
TIMEOUT_S = 30.0
"""Seconds for a response in all: a socket's timeout restarts with every byte."""
_UNAUTHORIZED, _FORBIDDEN = 401, 403


class Access(enum.Enum):
    """The hub's response to a request for a file of a model."""

    OPEN = "open"
    NO_TOKEN = "no token"  # noqa: S105  (a word)
    WRONG_TOKEN = "wrong token"  # noqa: S105
    NO_LICENCE = "licence not accepted"
    NARROW_TOKEN = "token without the right to gated models"  # noqa: S105
    UNKNOWN = "unknown"
    """Another response, or none: the download itself reports its error."""


def ask(endpoint: str, repo: str, revision: str, path: str, token: str) -> Access:
    """Request the headers of one file. Never raises."""
    base = (endpoint or HUB).rstrip("/")
    status, headers = _head(f"{base}/{repo}/resolve/{revision}/{path}", token)
    known = status != _UNAUTHORIZED or not token or _head(f"{base}/api/whoami-v2", token)[0] != _UNAUTHORIZED
    return judge(status, headers, token=bool(token), token_known=known)


def judge(status: int, headers: Mapping[str, str], *, token: bool, token_known: bool) -> Access:
    """Return the meaning of a response. ``token_known``: the hub knows the token, or there is none."""
    refused = status in {_UNAUTHORIZED, _FORBIDDEN}
    if token and not token_known:
        return Access.WRONG_TOKEN
    if refused and "fine-grained" in headers.get("X-Error-Message", ""):
        return Access.NARROW_TOKEN
    if refused and headers.get("X-Error-Code") == "GatedRepo":
        return Access.NO_LICENCE if token else Access.NO_TOKEN
    return Access.OPEN if 0 < status < 400 else Access.UNKNOWN  # noqa: PLR2004


def refusal(access: Access, repo: str, endpoint: str) -> Diagnostic | None:
    """Return why access is refused, and the remedy with its page; None if it is not."""
    hub = (endpoint or HUB).rstrip("/")
    tokens, page = f"{hub}/settings/tokens", f"{hub}/{repo}"
    named = "put it where 'hf_token' in group_data says"
    reasons = {
        Access.NO_TOKEN: (
            f"{repo} is gated, and there is no token",
            f"accept the licence at {page}, create a token at {tokens}, and {named}",
        ),
        Access.WRONG_TOKEN: (
            f"the hub does not know the token for {repo}: mistyped, expired or revoked",
            f"create a new token at {tokens}, and {named}",
        ),
        Access.NO_LICENCE: (
            f"{repo} is gated, and the token's account has not accepted its licence",
            f"accept the licence at {page} with the account that owns the token; approval may take time",
        ),
        Access.NARROW_TOKEN: (
            f"{repo} is gated, and the token may not read gated models",
            f"give the token the right to read gated repositories at {tokens}",
        ),
    }
    if access not in reasons:
        return None
    message, hint = reasons[access]
    return Diagnostic("hub", message, hint=hint, code=REFUSED)


def _head(url: str, token: str) -> tuple[int, dict[str, str]]:
    request = urllib.request.Request(url, method="HEAD")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    # A redirect, which leads to the file itself, is not followed: it means access.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    found: list[tuple[int, dict[str, str]]] = []

    def send() -> None:
        with (
            suppress(OSError, ValueError, http.client.HTTPException),
            opener.open(request, timeout=TIMEOUT_S) as response,
        ):
            found.append((response.status, dict(response.headers)))

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    sender.join(TIMEOUT_S)
    return found[0] if found else (0, {})
