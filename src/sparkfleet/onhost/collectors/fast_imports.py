"""JSON, SHA-256 and commands without the modules that offer them: their imports were a third of a look's CPU.

``json`` (with ``re``) costs 7 ms to import, ``hashlib`` (with OpenSSL) 2.4, ``subprocess`` 2.9, where python3
itself starts in 8. Their C parts cost nothing. They are no promise of Python's: where one is not there, or is
called in another way, the module itself is taken.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from typing import Any

LIMIT_S = 20
_SPACE = " \t\n\r"


class _Plain:
    """What ``json.JSONDecoder()`` would ask of itself."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int
    parse_constant = float


def _refuse(value: object) -> Any:
    raise TypeError("no JSON: %r" % (value,))


try:
    import _json

    _scan = _json.make_scanner(_Plain())  # type: ignore[arg-type]
    _encode = _json.make_encoder(
        None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, True
    )
    _encode({"tried": [1, True, None, 0.5, "ä"]}, 0)
except (ImportError, AttributeError, TypeError):  # another Python
    _json = None  # type: ignore[assignment]
try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found]
except ImportError:
    try:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]  # Python 3.11 and before
    except ImportError:
        from hashlib import sha256 as _sha256


def loads(text: str) -> Any:
    """Return what a JSON text says. Raise ValueError for any other text."""
    if _json is None:
        import json  # noqa: PLC0415

        return json.loads(text)
    try:
        value, end = _scan(text, len(text) - len(text.lstrip(_SPACE)))
    except StopIteration:
        raise ValueError("no JSON: %r" % text[:40]) from None
    if text[end:].strip(_SPACE):
        raise ValueError("more than JSON: %r" % text[end : end + 40])
    return value


def dumps(value: Any) -> str:
    """Return a value as JSON, without spaces."""
    if _json is None:
        import json  # noqa: PLC0415

        return json.dumps(value, separators=(",", ":"))
    return "".join(_encode(value, 0))


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file's content."""
    with open(path, "rb") as file:
        digest: str = _sha256(file.read()).hexdigest()
        return digest


def said(*words: str) -> str:
    """Return what a command prints, whatever its exit code. Raise TimeoutError after LIMIT_S seconds."""
    import select  # noqa: PLC0415  (a C module, for the commands of a look alone)
    import time  # noqa: PLC0415

    reader, writer = os.pipe()
    try:
        null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        mute = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
        out = (os.POSIX_SPAWN_DUP2, writer, 1)
        pid = os.posix_spawnp(words[0], words, os.environ, file_actions=(null, out, mute))
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    text, end, late = b"", time.monotonic() + LIMIT_S, False
    while True:
        late = not select.select((reader,), (), (), max(0.0, end - time.monotonic()))[0]
        chunk = b"" if late else os.read(reader, 1 << 16)
        if not chunk:
            break
        text += chunk
    os.close(reader)
    if late:
        os.kill(pid, 9)
    os.waitpid(pid, 0)
    if late:
        raise TimeoutError("%s did not answer within %g s" % (words[0], LIMIT_S))
    return text.decode("utf-8", "replace")
