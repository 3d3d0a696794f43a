"""Which URLs respond: name, connection, TLS and HTTP, each URL in a thread of its own."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any

LIMIT_S = 6


def collect_reach(urls: list[str]) -> dict[str, Any]:
    """Return how far a request to each URL gets; any HTTP response below 500 counts, also 401."""
    found: dict[str, Any] = {}
    threads = [threading.Thread(target=_ask, args=(url, found), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 2 * LIMIT_S
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    silent = {"ok": False, "step": "time", "detail": "no answer within %d s" % (2 * LIMIT_S)}
    return {url: found.get(url, silent) for url in urls}


def _ask(url: str, found: dict[str, Any]) -> None:
    begin = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=LIMIT_S) as response:
            step, ok, detail = "http", True, str(response.status)
    except urllib.error.HTTPError as error:
        step, ok, detail = "http", error.code < 500, str(error.code)
        error.close()
    except urllib.error.URLError as error:
        step, detail = _reason(error.reason)
        ok = False
    except (OSError, ValueError, http.client.HTTPException) as error:
        step, detail = _reason(error)
        ok = False
    found[url] = {"ok": ok, "step": step, "detail": detail, "ms": round((time.monotonic() - begin) * 1000)}


def _reason(reason: object) -> tuple[str, str]:
    if isinstance(reason, socket.gaierror):
        return "dns", "the name cannot be resolved: %s" % (reason.strerror or reason)
    if isinstance(reason, ssl.SSLError):
        return "tls", "TLS failed: %s" % (getattr(reason, "verify_message", "") or reason.reason or reason)
    if isinstance(reason, socket.timeout):
        return "time", "no answer within %d s" % LIMIT_S
    text = getattr(reason, "strerror", None) or str(reason)
    return "connect", str(text)
