"""A file is checked by the program that will read it, on a copy, before it is written."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from sparkfleet.resources.base import Host, ResourceError

SUDOERS = "/etc/sudoers"
SUDOERS_DIR = "/etc/sudoers.d"
UNITS = "/etc/systemd/system"
SYSCTLS = "/etc/sysctl.d"
UNIT_NAME = re.compile(r".+\.(service|timer|socket|mount|automount|path|target|slice|swap)")
_INCLUDE_DIR = re.compile(r"^([@#]includedir\s+)/etc/sudoers\.d/?\s*$", re.MULTILINE)


def check(host: Host, path: Path, content: bytes) -> None:
    """Raise ResourceError for a sudoers file, a unit or a sysctl file that the system would not accept."""
    if path.parent == Path(host.path(SUDOERS_DIR)):
        check_sudoers(host, path, content)
    elif path.parent == Path(host.path(UNITS)) and UNIT_NAME.fullmatch(path.name):
        check_unit(host, path, content)
    elif path.parent == Path(host.path(SYSCTLS)) and path.suffix == ".conf":
        for name, value in _settings(content.decode("utf-8", "replace")):
            check_sysctl(host, name, value)


def check_sudoers(host: Host, path: Path, content: bytes) -> None:
    """Have visudo check the file alone, then all of sudoers with it, as copies."""
    main_path, folder = Path(host.path(SUDOERS)), Path(host.path(SUDOERS_DIR))
    with tempfile.TemporaryDirectory(prefix="sparkfleet-") as scratch:
        alone = Path(scratch) / "alone"
        alone.write_bytes(content)
        result = host.run(("visudo", "-cf", str(alone)))
        if result.code:
            text = _first(result.text, {str(alone): str(path)})
            raise ResourceError(f"visudo refuses it: {text}", "a sudoers file", "correct the content")
        copy, main = Path(scratch) / "sudoers.d", Path(scratch) / "sudoers"
        if folder.is_dir():
            shutil.copytree(folder, copy)
        copy.mkdir(exist_ok=True)
        (copy / path.name).write_bytes(content)
        text = main_path.read_text(encoding="utf-8")
        main.write_text(_INCLUDE_DIR.sub(rf"\g<1>{copy}", text), encoding="utf-8")
        for one in (main, *copy.iterdir()):
            one.chmod(0o440)
        result = host.run(("visudo", "-cf", str(main)))
        if result.code:
            text = _first(result.text, {str(copy): str(folder), str(main): str(main_path)})
            message = f"visudo refuses all of sudoers with it: {text}"
            raise ResourceError(
                message, "sudoers that visudo -c accepts", "sudo visudo -c; correct what it names"
            )


def check_unit(host: Host, path: Path, content: bytes) -> None:
    """Raise ResourceError for a unit that systemd-analyze refuses or warns of."""
    with tempfile.TemporaryDirectory(prefix="sparkfleet-") as scratch:
        copy = Path(scratch) / path.name
        copy.write_bytes(content)
        result = host.run(("systemd-analyze", "verify", "--recursive-errors=no", "--man=no", str(copy)))
        # Lines that it does not understand are only warned of, with exit code 0.
        wrong = [line for line in result.text.splitlines() if path.name in line]
        if result.code or wrong:
            text = _first("\n".join(wrong) or result.text, {str(copy): str(path)})
            raise ResourceError(f"systemd refuses it: {text}", "a unit", "correct the content")


def sysctl_path(name: str) -> str:
    """Return where the kernel shows and takes a setting."""
    return "/proc/sys/" + name.replace(".", "/")


def check_sysctl(host: Host, name: str, value: str) -> None:
    """Raise ResourceError for an unknown setting or a refused value: it is set, and restored at once."""
    path = Path(host.path(sysctl_path(name)))
    if not path.is_file():
        raise ResourceError(f"there is no setting {name}", f"a file {path}", "correct the name")
    before = path.read_text(encoding="utf-8")
    try:
        path.write_text(f"{value}\n", encoding="utf-8")
    except OSError as error:
        message = f"the kernel refuses {name} = {value}: {error.strerror}"
        expected = f"a value as {' '.join(before.split())}"
        raise ResourceError(message, expected, "correct the value") from None
    path.write_text(before, encoding="utf-8")


def _settings(text: str) -> list[tuple[str, str]]:
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.lstrip("-").partition("=") for line in lines if line and line[0] not in "#;")
    found = []
    for name, equals, value in pairs:
        if not equals:
            raise ResourceError(f"{name!r} is no setting", "NAME = VALUE", "correct the content")
        if "*" not in name:
            found.append((name.strip().replace("/", "."), value.strip()))
    return found


def _first(text: str, names: dict[str, str]) -> str:
    for name, shown in names.items():
        text = text.replace(name, shown)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"


def reload(host: Host, path: Path) -> None:
    """Have systemd read its units again after one of them changed."""
    if path.parent == Path(host.path(UNITS)):
        host.run(("systemctl", "daemon-reload"), 180)
