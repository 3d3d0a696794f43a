"""fleet.lock as a file: stable text, written atomically, and errors in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sparkfleet.config.lock_data import Lock, LockedImage, LockedModel
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.desired_state import ImageRef, WeightFile, Weights
from sparkfleet.lock import lockfile

DIGEST = "sha256:" + "ab" * 32
IMAGE = ImageRef("nvcr.io/nvidia/vllm", "26.04-py3", DIGEST, ("/e.sh",), "0.19.0", 123)
FILES = (
    WeightFile("config.json", 700, "", "cd" * 20),
    WeightFile("model, odd: name.safetensors", 10**10, "ef" * 32, "ef" * 32),
)
CONFIG = (
    ("architectures", ["X"]),
    ("eps", 1e-06),
    ("hidden", 64),
    ("text_config", {"theta": 1e20, "on": True}),
)
LOCK = Lock(
    {
        "nvcr.io/nvidia/vllm:26.04-py3": LockedImage(IMAGE, DIGEST, "2026-01-01T00:00:00Z", (("A", "b: c"),)),
        f"docker.io/a/b@{DIGEST}": LockedImage(ImageRef("docker.io/a/b", "", DIGEST)),
    },
    {
        "org/model": LockedModel(Weights("org/model", "1" * 40, FILES, True, CONFIG)),
        "org/model@v1": LockedModel(Weights("org/model", "2" * 40, FILES[:1]), "v1"),
    },
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "fleet.lock"
    lockfile.write(path, LOCK)
    assert lockfile.read(path) == LOCK


def test_the_text_does_not_depend_on_the_order_of_things() -> None:
    images = dict(reversed(list(LOCK.images.items())))
    models = {
        key: LockedModel(
            Weights(
                entry.weights.repo,
                entry.weights.revision,
                entry.weights.files[::-1],
                entry.weights.gated,
                entry.weights.config[::-1],
            ),
            entry.requested,
        )
        for key, entry in reversed(list(LOCK.models.items()))
    }
    assert lockfile.text(Lock(images, models)) == lockfile.text(LOCK)


def test_the_text_is_one_entry_a_line() -> None:
    assert lockfile.text(LOCK) == (
        "# Written by `sparkfleet lock`: digests of tags, commits of branches. Commit it; do not edit it.\n"
        "version: 1\n"
        "images:\n"
        f"  docker.io/a/b@{DIGEST}:\n"
        f"    digest: {DIGEST}\n"
        '    arm64: ""\n'
        '    engine_version: ""\n'
        "    size: 0\n"
        '    created: ""\n'
        "    entrypoint: []\n"
        "    env: {}\n"
        "  nvcr.io/nvidia/vllm:26.04-py3:\n"
        f"    digest: {DIGEST}\n"
        f"    arm64: {DIGEST}\n"
        '    engine_version: "0.19.0"\n'
        "    size: 123\n"
        '    created: "2026-01-01T00:00:00Z"\n'
        '    entrypoint: ["/e.sh"]\n'
        "    env:\n"
        '      A: "b: c"\n'
        "models:\n"
        "  org/model:\n"
        f'    revision: "{"1" * 40}"\n'
        "    gated: true\n"
        "    config:\n"
        '      architectures: ["X"]\n'
        "      eps: 1e-06\n"
        "      hidden: 64\n"
        '      text_config: {"on": true, "theta": 1e+20}\n'
        "    files:\n"
        f"      config.json: {{size: 700, blob: {'cd' * 20}}}\n"
        f'      "model, odd: name.safetensors": {{size: 10000000000, sha256: {"ef" * 32}}}\n'
        "  org/model@v1:\n"
        f'    revision: "{"2" * 40}"\n'
        '    requested: "v1"\n'
        "    gated: false\n"
        "    config: {}\n"
        "    files:\n"
        f"      config.json: {{size: 700, blob: {'cd' * 20}}}\n"
    )


def test_a_missing_file_locks_nothing(tmp_path: Path) -> None:
    assert lockfile.read(tmp_path / "fleet.lock") == Lock()


@pytest.mark.provokes("lock-invalid", "lock-version-unsupported")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 2\n", "unsupported version 2"),
        ("images: {}\n", "the key 'version' is missing"),
        ("version: 1\nimages: {x: {}}\n", "missing key 'digest'"),
        ("version: 1\nimages: {'A B': {digest: d, arm64: e}}\n", "'A B' is not a valid image name"),
        ("version: 1\nextra: 1\n", "unknown key 'extra'"),
        ("- 1\n", "is a list"),
        ("", "the file is empty"),
        ("version: 1\n<<<<<<< HEAD\nimages: {}\n", "an unresolved merge conflict"),
    ],
)
def test_a_broken_file_is_reported_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "fleet.lock"
    path.write_text(text)
    with pytest.raises(SparkfleetError, match=r"fleet\.lock:\d") as error:
        lockfile.read(path)
    assert message in str(error.value)


def test_writing_keeps_the_files_mode(tmp_path: Path) -> None:
    path = tmp_path / "fleet.lock"
    lockfile.write(path, LOCK)
    assert path.stat().st_mode & 0o777 == 0o644
    path.chmod(0o660)
    lockfile.write(path, Lock())
    assert path.stat().st_mode & 0o777 == 0o660


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fleet.lock"
    lockfile.write(path, LOCK)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        lockfile.write(path, Lock())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["fleet.lock"]


KILLED = """
import os, signal, sys
from pathlib import Path
from sparkfleet.lock import lockfile
from sparkfleet.config.lock_data import Lock

calls = {"fsync": os.fsync, "replace": Path.replace, "chmod": Path.chmod, "fdopen": os.fdopen}
where, before = sys.argv[2], sys.argv[3] == "before"

def killing(*args, **kwargs):
    if before:
        os.kill(os.getpid(), signal.SIGKILL)
    calls[where](*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(os if where in ("fsync", "fdopen") else Path, where, killing)
lockfile.write(Path(sys.argv[1]), Lock())
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("where", ["fdopen", "fsync", "chmod", "replace"])
def test_killed_at_any_point_leaves_the_old_file_or_the_new_one_whole(
    tmp_path: Path, where: str, moment: str
) -> None:
    path = tmp_path / "fleet.lock"
    lockfile.write(path, LOCK)
    died = subprocess.run([sys.executable, "-c", KILLED, str(path), where, moment], check=False)
    assert died.returncode == -signal.SIGKILL
    assert lockfile.read(path) in (LOCK, Lock())


def test_what_a_killed_write_left_is_removed_by_a_later_one_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "fleet.lock"
    died = subprocess.run([sys.executable, "-c", KILLED, str(path), "fsync", "before"], check=False)
    assert died.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    other_files = [".fleet.lock.mine", ".fleet.lock.ABCDEFGH", "fleet.lock.abcdefgh", ".other.lock.abcdefgh"]
    for name in other_files:
        (tmp_path / name).touch()
    (tmp_path / ".fleet.lock.nolink__").symlink_to("/etc/passwd")
    (tmp_path / ".fleet.lock.newborn_").touch()
    for entry in tmp_path.iterdir():
        if "newborn" not in entry.name:
            os.utime(entry, (1, 1), follow_symlinks=False)
    lockfile.write(path, LOCK)
    remaining = {entry.name for entry in tmp_path.iterdir()}
    assert left.name not in remaining
    assert remaining == {"fleet.lock", ".fleet.lock.nolink__", ".fleet.lock.newborn_", *other_files}


def test_a_leftover_that_cannot_be_removed_is_no_failure(tmp_path: Path) -> None:
    path, left = tmp_path / "fleet.lock", tmp_path / ".fleet.lock.abcdefgh"
    left.mkdir()
    os.utime(left, (1, 1))
    lockfile.write(path, LOCK)
    assert lockfile.read(path) == LOCK
    assert left.is_dir()


def test_a_lock_file_of_an_older_version_is_read(tmp_path: Path) -> None:
    """Until there were several engines, the version of an image's engine was ``vllm``."""
    path = tmp_path / "fleet.lock"
    path.write_text(
        "version: 1\nimages:\n  docker.io/a/b:c: {digest: 'sha256:1', arm64: 'sha256:2', vllm: 0.19.0}\n"
    )
    (entry,) = lockfile.read(path).images.values()
    assert entry.image.engine_version == "0.19.0"


def test_the_older_key_of_a_requested_revision_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fleet.lock"
    path.write_text(lockfile.text(LOCK).replace("    requested: ", "    asked: "))
    assert "    asked: " in path.read_text()
    assert lockfile.read(path) == LOCK


@pytest.mark.parametrize(
    ("files", "line", "found"),
    [
        ("{}", 3, "the model org/a has no files"),
        ("{config.json: {size: 7}}", 3, "config.json of org/a has no hash"),
    ],
)
def test_a_model_that_could_not_be_verified_is_refused(
    tmp_path: Path, files: str, line: int, found: str
) -> None:
    path = tmp_path / "fleet.lock"
    path.write_text(f"version: 1\nmodels:\n  org/a: {{revision: '{'1' * 40}', files: {files}}}\n")
    with pytest.raises(SparkfleetError) as error:
        lockfile.read(path)
    (diagnostic,) = error.value.diagnostics
    assert (diagnostic.location, diagnostic.message) == (f"{path}:{line}", found)
    assert diagnostic.hint == f"remove the entry, then: sparkfleet lock {tmp_path}.py"


def test_an_incomplete_entry_is_removed_and_locked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "inventories" / "lab" / "fleet.lock"
    path.parent.mkdir(parents=True)
    path.write_text("version: 1\nimages: {'x:1': {digest: d}}\n")
    with pytest.raises(SparkfleetError) as error:
        lockfile.read(path)
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.message == "missing key 'arm64' in 'images.x:1'"
    assert diagnostic.hint == "remove the entry, then: sparkfleet lock inventories/lab.py"
    assert diagnostic.code == "lock-invalid"
