"""tools/ensure-docker.sh, with every program that it calls replaced by a stub that notes the call."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "tools" / "ensure-docker.sh"
REAL = ("sh", "env", "cat", "tail", "setsid", "sleep", "touch", "true")


@dataclass(frozen=True)
class Computer:
    """A computer with just the programs that a test puts there."""

    root: Path

    def has(self, name: str, script: str = "") -> None:
        """Put a program there; what it is called with is noted."""
        path = self.root / "bin" / name
        path.write_text(f'#!{shutil.which("sh")}\necho "{name} $*" >> {self.root}/calls\n{script}\n')
        path.chmod(0o755)

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        env = {
            "PATH": str(self.root / "bin"),
            "DOCKER_LOG": str(self.root / "log"),
            "DOCKER_PID": str(self.root / "pid"),
            "SYSTEMD_DIR": str(self.root / "systemd"),
            "DOCKER_WAIT": "3",
        }
        # The script appends the real /usr/sbin, where a dockerd may be: the test's copy goes without.
        text = SCRIPT.read_text().replace("PATH=$PATH:/usr/sbin:/sbin\n", "")
        return subprocess.run(
            [str(self.root / "bin" / "sh"), "-s"],
            input=text,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        """What was called, without questions."""
        path = self.root / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [
            line
            for line in lines
            if not line.startswith(("id ", "uname ", "docker info", "sudo -n docker", "systemctl show "))
        ]


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    """Root's Linux machine without Docker; ``up`` is there once a daemon runs."""
    made = Computer(tmp_path)
    (tmp_path / "bin").mkdir()
    for name in REAL:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or name)
    made.has("id", 'case "$1" in -u) echo 0 ;; *) echo root ;; esac')
    made.has("uname", "echo Linux")
    return made


def test_a_docker_that_answers_is_left_alone_without_a_word(computer: Computer) -> None:
    computer.has("docker")
    computer.has("apt-get")
    result = computer.run()
    assert (result.returncode, result.stdout, result.stderr, computer.calls) == (0, "", "", [])


def test_without_an_engine_the_distributions_is_installed_and_started_by_systemd(computer: Computer) -> None:
    up = computer.root / "up"
    (computer.root / "systemd").mkdir()
    computer.has("apt-get", f'case "$*" in *install*) touch {computer.root}/installed ;; esac')
    computer.has("docker", f"test -e {up}")
    computer.has("systemctl", f"touch {up}")
    result = computer.run()
    assert result.returncode == 0, result.stderr
    assert computer.calls == [
        "apt-get update -q",
        "apt-get install -q -y --no-install-recommends docker.io debootstrap iptables",
        "systemctl start docker",
    ]
    output = result.stdout.splitlines()
    assert (
        output[0]
        == "docker: installing the distribution's Docker Engine: apt-get install docker.io debootstrap"
    )
    assert output[-1] == "docker: it answers"


def test_an_engine_that_the_package_started_itself_is_not_started_again(computer: Computer) -> None:
    up = computer.root / "up"
    (computer.root / "systemd").mkdir()
    computer.has("apt-get", f'case "$*" in *install*) touch {up} ;; esac')
    computer.has("docker", f"test -e {up}")
    computer.has("systemctl")
    assert computer.run().returncode == 0
    assert "systemctl start docker" not in computer.calls


def test_without_systemd_dockerd_runs_in_a_session_of_its_own_with_log_and_pid_file(
    computer: Computer,
) -> None:
    up = computer.root / "up"
    computer.has("docker", f"test -e {up}")
    computer.has("dockerd", f"echo started; touch {up}")
    result = computer.run()
    assert result.returncode == 0, result.stderr
    assert computer.calls == [f"dockerd --pidfile {computer.root}/pid"]
    assert (computer.root / "log").read_text() == "started\n"


def test_a_directory_of_systemd_where_no_systemd_runs_is_not_taken_for_one(computer: Computer) -> None:
    up = computer.root / "up"
    (computer.root / "systemd").mkdir()
    computer.has("systemctl", "echo 'Failed to connect to bus: No such file or directory' >&2; exit 1")
    computer.has("docker", f"test -e {up}")
    computer.has("dockerd", f"touch {up}")
    result = computer.run()
    assert (result.returncode, result.stderr) == (0, "")
    assert computer.calls[-1] == f"dockerd --pidfile {computer.root}/pid"


def test_a_dockerd_that_does_not_start_is_an_error_with_its_last_lines(computer: Computer) -> None:
    computer.has("docker", "false")
    computer.has("dockerd", "echo failed to start daemon: no space left on device")
    result = computer.run()
    assert result.returncode == 1
    assert "no space left on device" in result.stderr
    assert "does not answer after 3 s" in result.stderr


def test_another_user_uses_sudo(computer: Computer) -> None:
    up = computer.root / "up"
    computer.has("id", 'case "$1" in -u) echo 1000 ;; *) echo ann ;; esac')
    computer.has("sudo", 'test "$1" != -n && "$@"')
    computer.has("docker", f"test -e {up}")
    computer.has("dockerd", f"touch {up}")
    result = computer.run()
    assert result.returncode == 0, result.stderr
    assert computer.calls[0].startswith("sudo sh -c setsid dockerd")


def test_a_user_who_may_not_use_a_running_engine_gets_a_remedy(computer: Computer) -> None:
    computer.has("id", 'case "$1" in -u) echo 1000 ;; *) echo ann ;; esac')
    computer.has("docker", "false")
    computer.has("sudo")
    result = computer.run()
    assert result.returncode == 1
    assert "sudo usermod -aG docker ann" in result.stderr
    assert computer.calls == []


def test_a_mac_gets_the_advice_to_start_its_own_engine(computer: Computer) -> None:
    computer.has("uname", "echo Darwin")
    computer.has("docker", "false")
    result = computer.run()
    assert result.returncode == 1
    assert "Docker Desktop" in result.stderr


def test_a_linux_without_apt_gets_a_link_to_an_engine(computer: Computer) -> None:
    result = computer.run()
    assert result.returncode == 1
    assert "docs.docker.com" in result.stderr
