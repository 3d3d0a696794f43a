"""``add-host`` and ``add-service``: the rest of a host file stays, and an invalid fleet is never written."""

from __future__ import annotations

from collections.abc import Callable

import click
import pytest
import yaml
from click.testing import CliRunner

from sparkfleet.cli.add import add_host, add_service
from sparkfleet.config.host_file_edit import add_service as edited
from sparkfleet.contract.diagnostic import SparkfleetError
from tests.unit.config.fleet_files import NANO, SMALL, FleetFiles

INVENTORY = "from sparkfleet.inventory import load\n\nsparks = load(__file__)\n"
Fleet = Callable[..., FleetFiles]
NEW = {"recipe": "new", "port": 1}


def run(command: click.Command, *arguments: str) -> str:
    done = CliRunner().invoke(command, ["inventories/lab.py", *arguments])
    if isinstance(done.exception, SparkfleetError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# top\nserve: a   # mine\nx: 1\n", "# top\nserve:  # mine\n  - a\n  - NEW\nx: 1\n"),
        ("serve: []   # idle\n", "serve:  # idle\n  - NEW\n"),
        ("serve: null\n", "serve:\n  - NEW\n"),
        ("serve:\n# why\nx: 1\n", "serve:\n  - NEW\n# why\nx: 1\n"),
        ("x: {}\n# end", "x: {}\n# end\nserve:\n  - NEW\n"),
        ("serve:\n- a\n- b # c\n\n# x is\nx: 1\n", "serve:\n- a\n- b # c\n- NEW\n\n# x is\nx: 1\n"),
        (
            "serve:\n  # big\n  - recipe: a\n    flags: {x:  1,\n      y: 2}  # c\n\n# x is\nx: [1,  2]\n",
            (
                "serve:\n  # big\n  - recipe: a\n    flags: {x:  1,\n      y: 2}  # c\n  - NEW\n"
                "\n# x is\nx: [1,  2]\n"
            ),
        ),
        (
            "serve:\n  recipe: a  # r\n\n  # below\n  env: {}\nx: 1\n",
            "serve:\n  - recipe: a  # r\n\n    # below\n    env: {}\n  - NEW\nx: 1\n",
        ),
        ("serve: {recipe: a} # c\n", "serve:  # c\n  - {recipe: a}\n  - NEW\n"),
        ("serve: [a, b]\n", "serve: [a, b, {recipe: new, port: 1}]\n"),
        ("serve: [\n  a,\n  b]  # c\n", "serve: [\n  a,\n  b, {recipe: new, port: 1}]  # c\n"),
        (
            "serve:\n    -   recipe: a\n        port: 2\n",
            "serve:\n    -   recipe: a\n        port: 2\n    - NEW\n",
        ),
    ],
)
def test_a_service_is_added_and_every_other_byte_stays(before: str, after: str) -> None:
    text = edited(before, "f.yaml", NEW)
    lines = after.splitlines(keepends=True)
    for number, line in enumerate(lines):
        indent = " " * line.find("- NEW")
        lines[number] = line.replace("- NEW\n", f"- recipe: new\n{indent}  port: 1\n")
    assert text == "".join(lines)
    assert yaml.safe_load(text)["serve"][-1] == NEW


@pytest.mark.provokes("edit-not-possible")
@pytest.mark.parametrize("text", ["{serve: a}\n", "serve:\n  - text: |\n      a\n      # b\n", "serve: {}\n"])
def test_a_layout_that_would_have_to_change_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(SparkfleetError, match=r"f\.yaml:1: .*(?s:.)*recipe: new, port: 1"):
        edited(text, "f.yaml", NEW)


def test_a_host_and_its_services_are_shown_and_written(fleet: Fleet) -> None:
    files = fleet({"inventories/lab.py": INVENTORY})
    output = run(add_host, "spark-01", "nvidia@192.168.1.21:2222")
    path = files.directory / "spark-01.yaml"
    assert path.read_text() == "ssh: {hostname: 192.168.1.21, user: nvidia, port: 2222}\nserve: []\n"
    assert "+serve: []\n" in output

    output = run(add_service, "spark-01", SMALL, "--name", "small", "--port", "8001")
    assert "-serve: []\n" in output
    assert "+    port: 8001\n" in output
    (host,) = files.load().hosts
    assert [(one.name, one.port) for one in host.services] == [("small", 8001)]


def test_a_host_of_a_directory_with_schemas_names_its_schema(fleet: Fleet) -> None:
    files = fleet({"inventories/lab.py": INVENTORY})
    (files.root / ".schema").mkdir()
    run(add_host, "spark-01", "--recipe", SMALL)
    first, *rest = (files.directory / "spark-01.yaml").read_text().splitlines()
    assert first == "# yaml-language-server: $schema=../../.schema/host.json"
    assert rest == [f"serve: {SMALL}"]


def test_a_fleet_without_hosts_and_without_a_directory_gets_its_first(fleet: Fleet) -> None:
    files = fleet({"inventories/lab.py": INVENTORY})
    files.directory.rmdir()
    run(add_host, "spark-01")
    assert [host.name for host in files.load().hosts] == ["spark-01"]


def test_an_existing_host_file_stays(fleet: Fleet) -> None:
    files = fleet({"inventories/lab.py": INVENTORY, "spark-01.yaml": "serve: null\n"})
    with pytest.raises(SparkfleetError, match=r"inventories/lab/spark-01\.yaml: the host file exists"):
        run(add_host, "spark-01")
    assert (files.directory / "spark-01.yaml").read_text() == "serve: null\n"


@pytest.mark.parametrize(
    ("text", "arguments", "error"),
    [
        (
            f"serve: [{{recipe: {SMALL}, port: 8000}}]\n",
            (NANO, "--port", "8000"),
            r"spark-01\.yaml:1: port 8000",
        ),
        (f"serve:\n  - {SMALL}\n", (SMALL,), r"spark-01\.yaml:3: duplicate service name"),
        ("serve: []\nserv: 1\n", (SMALL,), r"spark-01\.yaml:2: unknown key 'serv'"),
        ("serve: [\n", (SMALL,), r"spark-01\.yaml:\d: invalid YAML"),
        ("serve: []\n", ("gpt-oss-20",), "did you mean 'gpt-oss-20b'"),
        ("serve: []\n", (SMALL, "--name", "A B"), r"spark-01\.yaml:3: "),
    ],
)
def test_what_would_be_invalid_is_refused_with_its_line_and_not_written(
    fleet: Fleet, text: str, arguments: tuple[str, ...], error: str
) -> None:
    files = fleet({"inventories/lab.py": INVENTORY, "spark-01.yaml": text})
    with pytest.raises(SparkfleetError, match=error):
        run(add_service, "spark-01", *arguments)
    assert (files.directory / "spark-01.yaml").read_text() == text


def test_a_host_with_the_address_of_another_is_refused(fleet: Fleet) -> None:
    files = fleet({"inventories/lab.py": INVENTORY, "spark-01.yaml": "ssh: {hostname: 10.0.0.1}\n"})
    with pytest.raises(SparkfleetError, match=r"spark-02\.yaml: spark-02 has the same address"):
        run(add_host, "spark-02", "10.0.0.1")
    assert not (files.directory / "spark-02.yaml").exists()


@pytest.mark.parametrize("name", ["Spark_1", "-x"])
def test_a_name_that_no_host_can_have_is_refused(fleet: Fleet, name: str) -> None:
    fleet({"inventories/lab.py": INVENTORY})
    with pytest.raises(SparkfleetError, match="invalid"):
        run(add_host, "--", name)


def test_an_error_of_another_file_does_not_keep_a_host_out(fleet: Fleet) -> None:
    files = fleet({"inventories/lab.py": INVENTORY, "spark-01.yaml": "serv: 1\n"})
    run(add_host, "spark-02")
    assert (files.directory / "spark-02.yaml").exists()


def test_a_service_for_an_unknown_host_names_the_nearest(fleet: Fleet) -> None:
    fleet({"inventories/lab.py": INVENTORY, "spark-01.yaml": "serve: null\n"})
    with pytest.raises(SparkfleetError, match="did you mean 'spark-01'"):
        run(add_service, "sprak-01", SMALL)
