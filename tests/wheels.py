"""Wheels of a few hundred bytes for packages that nobody published, and the real pip that installs them."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import zipfile
from collections.abc import Sequence


def wheel(name: str, version: str, requires: Sequence[str] = (), script: str = "") -> tuple[str, bytes]:
    """Return file name and content of a wheel whose module says its version; ``script``: a command of it."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}/__init__.py": f"VERSION = {version!r}\n\n\ndef main():\n    print({name!r}, VERSION)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {line}\n" for line in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script} = {module}:main\n"
    record = [f"{path},sha256={_sum(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{module}-{version}-py3-none-any.whl", buffer.getvalue()


def _sum(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def real_pip() -> tuple[str, bytes]:
    """Return file name and content of a wheel of the pip of this environment."""
    pip = importlib.metadata.distribution("pip")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in pip.files or ():
            if file.parts[0] in {"pip", f"pip-{pip.version}.dist-info"} and "__pycache__" not in file.parts:
                archive.write(str(pip.locate_file(file)), str(file))
    return f"pip-{pip.version}-py3-none-any.whl", buffer.getvalue()
