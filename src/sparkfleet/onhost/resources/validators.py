"""A file is tested by the program that will read it, on a copy, before it is put in place."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.machine.system import System, systemctl
from sparkfleet.onhost.resources.base import RefusedError

SUDOERS = Path("/etc/sudoers")
SUDOERS_DIR = Path("/etc/sudoers.d")
UNITS = Path("/etc/systemd/system")
SYSCTLS = Path("/etc/sysctl.d")
UNIT_NAME = re.compile(r".+\.(service|timer|socket|mount|automount|path|target|slice|swap)")
_INCLUDE_DIR = re.compile(r"^([@#]includedir\s+)/etc/sudoers\.d/?\s*$", re.MULTILINE)


def check(system: System, path: Path, content: bytes) -> None:
    """Refuse a sudoers file, a unit or a sysctl file that the system would not take."""
    if path.parent == SUDOERS_DIR:
        check_sudoers(system, path, content)
    elif path.parent == UNITS and UNIT_NAME.fullmatch(path.name):
        check_unit(system, path, content)
    elif path.parent == SYSCTLS and path.suffix == ".conf":
        for name, value in _settings(content.decode("utf-8", "replace")):
            try_sysctl(name, value)


def check_sudoers(system: System, path: Path, content: bytes) -> None:
    """Refuse what visudo refuses: the file alone, then all of sudoers with it, as copies."""
    with tempfile.TemporaryDirectory(prefix="sparkfleet-") as scratch:
        alone = Path(scratch) / "alone"
        alone.write_bytes(content)
        said = system.run(("visudo", "-cf", str(alone)))
        if said.code:
            text = _first(said.text, {str(alone): str(path)})
            raise RefusedError(f"visudo refuses it: {text}", "a sudoers file", "mend the content")
        copy, main = Path(scratch) / "sudoers.d", Path(scratch) / "sudoers"
        if SUDOERS_DIR.is_dir():
            shutil.copytree(SUDOERS_DIR, copy)
        copy.mkdir(exist_ok=True)
        (copy / path.name).write_bytes(content)
        main.write_text(
            _INCLUDE_DIR.sub(rf"\g<1>{copy}", SUDOERS.read_text(encoding="utf-8")), encoding="utf-8"
        )
        for one in (main, *copy.iterdir()):
            one.chmod(0o440)
        said = system.run(("visudo", "-cf", str(main)))
        if said.code:
            text = _first(said.text, {str(copy): str(SUDOERS_DIR), str(main): str(SUDOERS)})
            found = f"with it sudo's settings would be refused: {text}"
            raise RefusedError(found, "sudoers that visudo -c takes", "sudo visudo -c; mend what it names")


def check_unit(system: System, path: Path, content: bytes) -> None:
    """Refuse what systemd-analyze refuses."""
    with tempfile.TemporaryDirectory(prefix="sparkfleet-") as scratch:
        copy = Path(scratch) / path.name
        copy.write_bytes(content)
        said = system.run(("systemd-analyze", "verify", "--recursive-errors=no", "--man=no", str(copy)))
        # Lines that it does not understand are only warned of, with exit code 0.
        wrong = [line for line in said.text.splitlines() if path.name in line]
        if said.code or wrong:
            text = _first("\n".join(wrong) or said.text, {str(copy): str(path)})
            raise RefusedError(f"systemd refuses it: {text}", "a unit", "mend the content")


def try_sysctl(name: str, value: str) -> None:
    """Refuse a setting that the kernel does not have, or does not take: it is set, and set back at once."""
    path = Path(resources.sysctl_path(name))
    if not path.is_file():
        raise RefusedError(f"there is no setting {name}", f"a file {path}", "mend the name")
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(f"{value}\n", encoding="utf-8")
    except OSError as error:
        found = f"the kernel refuses {name} = {value}: {error.strerror}"
        raise RefusedError(found, f"a value as {' '.join(before.split())}", "mend the value") from None
    path.write_text(before, encoding="utf-8")


def _settings(text: str) -> list[tuple[str, str]]:
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.lstrip("-").partition("=") for line in lines if line and line[0] not in "#;")
    found = []
    for name, equals, value in pairs:
        if not equals:
            raise RefusedError(f"{name!r} is no setting", "NAME = VALUE", "mend the content")
        if "*" not in name:
            found.append((name.strip().replace("/", "."), value.strip()))
    return found


def _first(text: str, names: dict[str, str]) -> str:
    for name, shown in names.items():
        text = text.replace(name, shown)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"


def tell(system: System, path: Path) -> None:
    """Have systemd read its units anew after one of them changed."""
    if path.parent == UNITS:
        systemctl(system, "daemon-reload")
