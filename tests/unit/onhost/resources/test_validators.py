"""What the system would not take is refused on a copy, by the program that would read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sparkfleet.onhost.collectors import resources
from sparkfleet.onhost.machine.system import Ran
from sparkfleet.onhost.resources import validators
from sparkfleet.onhost.resources.base import RefusedError
from tests.unit.onhost.world import World


class Judge:
    """A system whose programs say what the test wants, and see what they are shown."""

    def __init__(self, world: World, *answers: Ran) -> None:
        self.paths, self.answers, self.shown = world.paths, list(answers), []  # type: ignore[var-annotated]

    def run(self, words: Sequence[str], _: float = 60) -> Ran:
        self.shown.append((words[0], Path(words[-1]).read_text()))
        ran = self.answers.pop(0)
        return Ran(ran.code, ran.out, ran.err.replace("THIS", words[-1]))


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sudoers.d").mkdir()
    (tmp_path / "sudoers").write_text("root ALL=(ALL) ALL\n@includedir /etc/sudoers.d\n")
    (tmp_path / "sudoers.d" / "theirs").write_text("them ALL=(ALL) ALL\n")
    monkeypatch.setattr(validators, "SUDOERS", tmp_path / "sudoers")
    monkeypatch.setattr(validators, "SUDOERS_DIR", tmp_path / "sudoers.d")
    return tmp_path


def test_a_sudoers_file_is_tested_alone_and_then_with_all_others(world: World, etc: Path) -> None:
    judge = Judge(world, Ran(0), Ran(0))
    validators.check(judge, etc / "sudoers.d" / "new", b"new ALL=(ALL) ALL\n")  # type: ignore[arg-type]
    (_, alone), (_, whole) = judge.shown
    assert alone == "new ALL=(ALL) ALL\n"
    assert "/etc/sudoers.d" not in whole.replace("sparkfleet-", "")
    assert sorted(path.name for path in (etc / "sudoers.d").iterdir()) == ["theirs"]


@pytest.mark.parametrize("fails", [1, 2])
def test_what_visudo_refuses_is_refused_with_its_words_and_the_real_path(
    world: World, etc: Path, fails: int
) -> None:
    judge = Judge(world, *[Ran(0)] * (fails - 1), Ran(1, "", "THIS:1:5: syntax error"))
    with pytest.raises(RefusedError) as error:
        validators.check(judge, etc / "sudoers.d" / "new", b"new ALL=(ALL")  # type: ignore[arg-type]
    shown = etc / "sudoers.d" / "new" if fails == 1 else etc / "sudoers"
    assert f"{shown}:1:5: syntax error" in error.value.found
    assert ("with it sudo's settings would be refused" in error.value.found) == (fails == 2)


@pytest.mark.parametrize(
    "said", [Ran(1, "", "THIS: bad"), Ran(0, "", "THIS:3: Unknown key name 'Restartt' in section 'Service'")]
)
def test_a_unit_with_a_line_that_systemd_only_warns_of_is_refused_too(world: World, said: Ran) -> None:
    with pytest.raises(RefusedError, match=r"/etc/systemd/system/x.service"):
        validators.check(Judge(world, said), validators.UNITS / "x.service", b"[Service]\n")  # type: ignore[arg-type]


def test_what_systemd_says_of_other_units_is_no_reason(world: World) -> None:
    judge = Judge(world, Ran(0, "", "/lib/systemd/system/other.service:3: old"))
    validators.check(judge, validators.UNITS / "x.service", b"[Service]\n")  # type: ignore[arg-type]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel with one setting."""
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm" / "swappiness").write_text("60\n")
    monkeypatch.setattr(resources, "sysctl_path", lambda name: str(tmp_path / name.replace(".", "/")))
    return tmp_path / "vm" / "swappiness"


def check_settings(world: World, text: str) -> None:
    validators.check(Judge(world), validators.SYSCTLS / "x.conf", text.encode())  # type: ignore[arg-type]


def test_each_setting_of_a_sysctl_file_is_tried_and_set_back(world: World, kernel: Path) -> None:
    check_settings(world, "# a comment\n; another\n\nvm.swappiness = 10\n-vm/swappiness=5\nnet.*.x = 1\n")
    assert kernel.read_text() == "60\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("vm.swapiness = 1", "there is no setting vm.swapiness"),
        ("vm.swappiness", "is no setting"),
    ],
)
def test_a_setting_that_the_kernel_does_not_have_is_refused(
    world: World, kernel: Path, text: str, why: str
) -> None:
    with pytest.raises(RefusedError, match=why):
        check_settings(world, text)


def test_a_value_that_the_kernel_refuses_is_refused_with_what_it_has(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(RefusedError) as error:
        validators.try_sysctl("vm.swappiness", "many")
    assert "the kernel refuses vm.swappiness = many: Invalid argument" in error.value.found
    assert error.value.expected == "a value as 60"


def test_other_files_have_no_test(world: World, tmp_path: Path) -> None:
    validators.check(Judge(world), tmp_path / "motd", b"\x00")  # type: ignore[arg-type]
