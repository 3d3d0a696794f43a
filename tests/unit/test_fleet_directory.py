"""The directory that ``sparkfleet init`` writes is a fleet: it is checked by the commands that work in it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from sparkfleet import fleet_directory
from sparkfleet.catalog.load import Catalog
from sparkfleet.cli import init
from sparkfleet.cli.check import check
from sparkfleet.config.models import Recipe
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.fleet_directory import NewHost


def run(*arguments: str) -> str:
    done = CliRunner().invoke(init.init, ["--no-login", *arguments])
    if isinstance(done.exception, SparkfleetError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_what_init_writes_passes_check_but_for_the_missing_lock_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = run(str(tmp_path / "fleet"), "--host", "spark-01=nvidia@192.168.1.21:2222")
    monkeypatch.chdir(tmp_path / "fleet")
    done = CliRunner().invoke(check, ["inventories/home.py"])
    text = done.output + str(done.exception)
    assert "fleet.lock" in text
    assert "error: inventories/home/spark-01.yaml" not in text
    assert f"cd {tmp_path / 'fleet'} && sparkfleet lock inventories/home.py" in output


def test_a_host_file_has_the_address_the_login_and_the_recipe(tmp_path: Path) -> None:
    run(
        str(tmp_path),
        "--host",
        "spark-01=nvidia@192.168.1.21:2222",
        "--recipe",
        "gpt-oss-20b",
        "--fleet",
        "lab",
    )
    data = yaml.safe_load((tmp_path / "inventories" / "lab" / "spark-01.yaml").read_text())
    assert data == {
        "ssh": {"hostname": "192.168.1.21", "user": "nvidia", "port": 2222},
        "serve": "gpt-oss-20b",
    }


def test_the_deploys_of_a_fleet_directory_are_the_ones_that_are_shipped(tmp_path: Path) -> None:
    run(str(tmp_path))
    for name in ("serve", "prepare", "stage", "verify", "fabric"):
        assert (tmp_path / "deploys" / f"{name}.py").read_text() == fleet_directory.deploy(name).read_text()


def test_the_ci_workflow_is_yaml_that_checks_and_plans() -> None:
    text = fleet_directory.files("home", [], "1.2.3", {})[".github/workflows/fleet.yml"]
    jobs = yaml.safe_load(text)["jobs"]
    assert "sparkfleet check inventories/home.py" in str(jobs["check"])
    assert "sparkfleet plan inventories/home.py" in str(jobs["plan"])
    assert "${{ vars.SPARKFLEET_RUNNER }}" in jobs["plan"]["runs-on"]
    assert "sparkfleet==1.2.3" in str(jobs)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("spark-01=192.168.1.21", NewHost("spark-01", "192.168.1.21")),
        ("nvidia@spark-9c2f.local", NewHost("spark-9c2f", "spark-9c2f.local", "nvidia")),
        ("192.168.1.21:2222", NewHost("spark-21", "192.168.1.21", port=2222)),
        ("Spark-One", NewHost("spark-one", "Spark-One")),
    ],
)
def test_a_spark_is_named_by_its_address_where_no_name_is_set(text: str, host: NewHost) -> None:
    assert init.parse_hosts([text]) == [host]


@pytest.mark.provokes("host-option")
@pytest.mark.parametrize(
    "texts", [["a b"], ["x_y=10.0.0.1"], ["a=10.0.0.1", "a=10.0.0.2"], [""], ["a=10.0.0.1:ssh"]]
)
def test_a_spark_that_cannot_be_read_or_is_named_twice_is_an_error(texts: list[str]) -> None:
    with pytest.raises(SparkfleetError):
        init.parse_hosts(texts)


@pytest.mark.provokes("file-exists")
def test_a_file_of_the_owner_is_never_changed_and_then_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("mine = True\n")
    with pytest.raises(SparkfleetError) as raised:
        run(str(tmp_path))
    assert "config.py" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["config.py"]
    assert (tmp_path / "config.py").read_text() == "mine = True\n"


def test_init_again_with_the_same_answers_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        run(str(tmp_path), "--host", "spark-01=192.168.1.21")
    assert (tmp_path / "inventories" / "home" / "spark-01.yaml").exists()


def contact(name: str, memory_gib: float | None = None, diagnostic: Diagnostic | None = None) -> object:
    return SimpleNamespace(name=name, memory_gib=memory_gib, diagnostic=diagnostic)


def init_with_logins(*arguments: str) -> str:
    done = CliRunner().invoke(init.init, arguments)
    if isinstance(done.exception, SparkfleetError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("name", "text"),
    [("config.py", "mine = True\n"), ("inventories/home/spark-01.yaml", "serve: [gpt-oss-20b, x]\n")],
)
def test_a_conflicting_file_is_found_before_any_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setattr(init, "_log_in", lambda _: pytest.fail("a login before the files were checked"))
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with pytest.raises(SparkfleetError, match=path.name):
        init_with_logins(str(tmp_path), "--host", "spark-01=192.168.1.21")


def test_a_host_file_of_the_same_login_is_no_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "_log_in", lambda _: [contact("spark-01", 16.0)])
    for _ in range(2):
        init_with_logins(str(tmp_path), "--host", "spark-01=192.168.1.21")
    assert "# 16 GiB of memory" in (tmp_path / "inventories/home/spark-01.yaml").read_text()


def test_the_next_step_after_a_failed_login_is_that_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Diagnostic("spark-02", "SSH refused the login", code="ssh-login-refused")
    monkeypatch.setattr(
        init, "_log_in", lambda _: [contact("spark-01", 119.7), contact("spark-02", diagnostic=refused)]
    )
    output = init_with_logins(
        str(tmp_path), "--host", "spark-01=192.168.1.21", "--host", "spark-02=nvidia@192.168.1.22:2222"
    )
    first, second, *_ = output.partition("next:\n")[2].splitlines()
    assert first.startswith("  ssh -p 2222 nvidia@192.168.1.22 true")
    assert "sparkfleet lock" in second


def recipe(name: str, gib: float | None, **fields: object) -> Recipe:
    return Recipe.model_validate(
        {
            "recipe": name,
            "title": name,
            "source": "here",
            "status": "documented",
            "model": f"org/{name}",
            "image": "nvcr.io/nvidia/vllm:26.04-py3",
            "model_info": {"weights_gib": gib},
            **fields,
        }
    )


def test_the_first_recipe_is_proposed_where_it_fits_or_nothing_is_known() -> None:
    recipes = Catalog.of().values()
    assert init.recommend(recipes, 119.7) == init.FIRST
    assert init.recommend(recipes, None) == init.FIRST


def test_a_small_spark_gets_the_largest_documented_recipe_that_needs_nothing_more() -> None:
    recipes = [
        recipe("big", 30),
        recipe("right", 9),
        recipe("small", 4),
        recipe("gated", 9.5, requires={"gated": True}),
        recipe("derived", 9.5, status="derived"),
        recipe("two", 9.5, requires={"sparks": 2}),
        recipe("unknown", None),
    ]
    assert init.recommend(recipes, 20) == "right"
    assert init.recommend(recipes, 4) == ""


def test_a_spark_on_which_nothing_fits_serves_nothing_yet() -> None:
    assert "serve: []\n" in NewHost("spark-01", "10.0.0.1").file


def test_hosts_of_the_ssh_configuration_are_listed_without_patterns(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("Host spark-a spark-b\n  User nvidia\nHost *.lan !x\n  Port 22\n")
    assert init.configured_hosts(path) == ["spark-a", "spark-b"]
    assert init.configured_hosts(tmp_path / "missing") == []
    path.write_text("Match nonsense\n")
    assert init.configured_hosts(path) == []


def avahi_browse(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program of this name on PATH; no test asks the network."""
    path = directory / "avahi-browse"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


ANNOUNCED = """cat <<'END'
+;eth0;IPv4;spark-9c2f;_ssh._tcp;local
=;eth0;IPv6;spark-9c2f;_ssh._tcp;local;spark-9c2f.local;fe80::1;22;
=;eth0;IPv4;spark-9c2f;_ssh._tcp;local;spark-9c2f.local;192.168.1.21;22;"a=b"
=;wlan0;IPv4;spark-9c2f;_ssh._tcp;local;spark-9c2f.local;192.168.1.99;22;
=;eth0;IPv4;an\\032odd\\059one;_ssh._tcp;local;gx10-1234.local;192.168.1.22;22;
=;eth0
END"""


def test_hosts_that_announce_ssh_are_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    avahi_browse(tmp_path, monkeypatch, ANNOUNCED)
    assert init.announced_hosts() == {"gx10-1234.local": "192.168.1.22", "spark-9c2f.local": "192.168.1.21"}


@pytest.mark.parametrize("script", ["exit 1", "exec sleep 60", "printf '=;\\377'"])
def test_a_search_that_fails_or_hangs_finds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(init, "DISCOVERY_S", 0.5)
    avahi_browse(tmp_path, monkeypatch, script)
    assert init.announced_hosts() == {}
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert init.announced_hosts() == {}


def test_on_a_terminal_init_shows_what_it_found_and_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    avahi_browse(tmp_path, monkeypatch, ANNOUNCED)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
    answer = "spark-01=nvidia@spark-9c2f.local\n"
    done = CliRunner().invoke(init.init, ["--no-login", str(tmp_path / "fleet")], input=answer)
    assert done.exit_code == 0, done.output
    assert "  spark-9c2f.local  192.168.1.21\n" in done.output
    text = (tmp_path / "fleet/inventories/home/spark-01.yaml").read_text()
    assert "ssh: {hostname: spark-9c2f.local, user: nvidia}\n" in text
