"""May this token read that model? Asked of the hub before anything is downloaded.

A gated model is refused for three reasons that look alike in the hub's answers and have different remedies.
The words are the same wherever they are said: when a fleet is locked, and on the Spark.
"""

from __future__ import annotations

import enum
import http.client
import urllib.request
from collections.abc import Mapping

HUB = "https://huggingface.co"
TIMEOUT_S = 30.0
_UNAUTHORIZED, _FORBIDDEN = 401, 403


class Access(enum.Enum):
    """What the hub says to who asks for a file of a model."""

    OPEN = "open"
    NO_TOKEN = "no token"  # noqa: S105  (a word)
    WRONG_TOKEN = "wrong token"  # noqa: S105
    NO_LICENCE = "licence not accepted"
    NARROW_TOKEN = "token without the right to gated models"  # noqa: S105
    UNKNOWN = "unknown"
    """Another response, or none: the download itself reports it."""


def ask(endpoint: str, repo: str, revision: str, path: str, token: str) -> Access:
    """Ask for one file, its head alone. Never raises."""
    base = (endpoint or HUB).rstrip("/")
    status, headers = _head(f"{base}/{repo}/resolve/{revision}/{path}", token)
    known = status != _UNAUTHORIZED or not token or _head(f"{base}/api/whoami-v2", token)[0] != _UNAUTHORIZED
    return judge(status, headers, token=bool(token), token_known=known)


def judge(status: int, headers: Mapping[str, str], *, token: bool, token_known: bool) -> Access:
    """Return what an answer means. ``token_known``: the hub knows whose token it is (or there is none)."""
    refused = status in {_UNAUTHORIZED, _FORBIDDEN}
    if token and not token_known:
        return Access.WRONG_TOKEN
    if refused and "fine-grained" in headers.get("X-Error-Message", ""):
        return Access.NARROW_TOKEN
    if refused and headers.get("X-Error-Code") == "GatedRepo":
        return Access.NO_LICENCE if token else Access.NO_TOKEN
    return Access.OPEN if 0 < status < 400 else Access.UNKNOWN  # noqa: PLR2004


def refusal(access: Access, repo: str, endpoint: str) -> tuple[str, str] | None:
    """Return what is wrong and what to do, with the page to go to; None where nothing is known to be."""
    hub = (endpoint or HUB).rstrip("/")
    tokens, page = f"{hub}/settings/tokens", f"{hub}/{repo}"
    named = "put it where 'hf_token' in group_data says"
    return {
        Access.NO_TOKEN: (
            f"{repo} is gated, and there is no token",
            f"accept the licence at {page}, make a token at {tokens}, and {named}",
        ),
        Access.WRONG_TOKEN: (
            f"the hub does not know the token that it was given for {repo}: mistyped, expired or revoked",
            f"make a new token at {tokens}, and {named}",
        ),
        Access.NO_LICENCE: (
            f"{repo} is gated, and the token's account has not accepted its licence",
            f"accept the licence at {page} with the account that owns the token; some owners answer by hand",
        ),
        Access.NARROW_TOKEN: (
            f"{repo} is gated, and the token may not read gated models",
            f"give the token the right to read gated repositories at {tokens}",
        ),
    }.get(access)


def _head(url: str, token: str) -> tuple[int, dict[str, str]]:
    request = urllib.request.Request(url, method="HEAD")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    # Nothing here follows a redirect, which leads to the file itself: that it is given is all that is asked.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return answer.status, dict(answer.headers)
    except (OSError, ValueError, http.client.HTTPException):
        return 0, {}
