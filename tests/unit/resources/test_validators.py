"""What the system would not accept is refused on a copy, by the program that would read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sparkfleet.onhost.machine.system import CommandResult
from sparkfleet.resources import validators
from sparkfleet.resources.base import ResourceError
from tests.unit.resources.fake_host import FakeHost


class Judge(FakeHost):
    """A Spark whose programs return what a test says, and keep what they were shown."""

    def __init__(self, root: Path, *results: CommandResult) -> None:
        super().__init__(root, *results)
        self.shown: list[tuple[str, str]] = []

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> CommandResult:
        self.shown.append((argv[0], Path(argv[-1]).read_text()))
        ran = self.results.pop(0)
        return CommandResult(ran.code, ran.out, ran.err.replace("THIS", argv[-1]))


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    host = FakeHost(tmp_path)
    host.write("/etc/sudoers", "root ALL=(ALL) ALL\n@includedir /etc/sudoers.d\n")
    host.write("/etc/sudoers.d/theirs", "them ALL=(ALL) ALL\n")
    return tmp_path / "etc"


def test_a_sudoers_file_is_checked_alone_and_then_with_all_others(tmp_path: Path, etc: Path) -> None:
    judge = Judge(tmp_path, CommandResult(0), CommandResult(0))
    validators.check(judge, etc / "sudoers.d" / "new", b"new ALL=(ALL) ALL\n")
    (_, alone), (_, whole) = judge.shown
    assert alone == "new ALL=(ALL) ALL\n"
    assert "/etc/sudoers.d" not in whole.replace("sparkfleet-", "")
    assert sorted(path.name for path in (etc / "sudoers.d").iterdir()) == ["theirs"]


@pytest.mark.parametrize("fails", [1, 2])
def test_what_visudo_refuses_is_refused_with_its_message_and_the_real_path(
    tmp_path: Path, etc: Path, fails: int
) -> None:
    judge = Judge(tmp_path, *[CommandResult(0)] * (fails - 1), CommandResult(1, "", "THIS:1:5: syntax error"))
    with pytest.raises(ResourceError) as error:
        validators.check(judge, etc / "sudoers.d" / "new", b"new ALL=(ALL")
    shown = etc / "sudoers.d" / "new" if fails == 1 else etc / "sudoers"
    assert f"{shown}:1:5: syntax error" in error.value.diagnostic.message
    assert ("all of sudoers with it" in error.value.diagnostic.message) == (fails == 2)


@pytest.mark.parametrize(
    "result",
    [
        CommandResult(1, "", "THIS: bad"),
        CommandResult(0, "", "THIS:3: Unknown key name 'Restartt' in section 'Service'"),
    ],
)
def test_a_unit_with_a_line_that_systemd_only_warns_of_is_refused_too(
    tmp_path: Path, result: CommandResult
) -> None:
    path = tmp_path / "etc/systemd/system/x.service"
    with pytest.raises(ResourceError, match=r"/etc/systemd/system/x.service"):
        validators.check(Judge(tmp_path, result), path, b"[Service]\n")


def test_what_systemd_reports_of_other_units_is_no_reason(tmp_path: Path) -> None:
    judge = Judge(tmp_path, CommandResult(0, "", "/lib/systemd/system/other.service:3: old"))
    validators.check(judge, tmp_path / "etc/systemd/system/x.service", b"[Service]\n")


@pytest.fixture
def setting(tmp_path: Path) -> Path:
    """A kernel with one setting."""
    return FakeHost(tmp_path).write("/proc/sys/vm/swappiness", "60\n")


def check_settings(root: Path, text: str) -> None:
    validators.check(Judge(root), root / "etc/sysctl.d/x.conf", text.encode())


def test_each_setting_of_a_sysctl_file_is_tried_and_restored(tmp_path: Path, setting: Path) -> None:
    check_settings(tmp_path, "# a comment\n; another\n\nvm.swappiness = 10\n-vm/swappiness=5\nnet.*.x = 1\n")
    assert setting.read_text() == "60\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("vm.swapiness = 1", "there is no setting vm.swapiness"),
        ("vm.swappiness", "is no setting"),
    ],
)
def test_a_setting_that_the_kernel_does_not_have_is_refused(
    tmp_path: Path, setting: Path, text: str, found: str
) -> None:
    with pytest.raises(ResourceError, match=found):
        check_settings(tmp_path, text)


def test_a_value_that_the_kernel_refuses_is_refused_with_the_present_one(
    tmp_path: Path, setting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(ResourceError) as error:
        validators.check_sysctl(FakeHost(tmp_path), "vm.swappiness", "many")
    assert "the kernel refuses vm.swappiness = many: Invalid argument" in error.value.diagnostic.message
    assert error.value.diagnostic.expected == "a value as 60"


def test_other_files_are_not_checked(tmp_path: Path) -> None:
    validators.check(Judge(tmp_path), tmp_path / "motd", b"\x00")
