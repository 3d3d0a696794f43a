"""Where the password for sudo comes from: host file over group data over a variable; never the password."""

from collections.abc import Callable

import pytest

from tests.unit.config.fleet_files import FleetFiles

IDLE = "serve: null\n"


def test_a_variable_is_where_the_password_comes_from_unless_it_is_declared(
    fleet: Callable[..., FleetFiles],
) -> None:
    (host,) = fleet({"spark-01.yaml": IDLE}).load().hosts
    assert host.sudo_password == "env:SPARKFLEET_SUDO_PASSWORD"


@pytest.mark.parametrize("source", ["env:PW", "file:~/.pw", "command:pass show spark", "ask"])
def test_group_data_says_it_for_all_and_a_host_file_for_its_spark(
    fleet: Callable[..., FleetFiles], source: str
) -> None:
    hosts = (
        fleet(
            {
                "group_data/all.py": "sparkfleet = {'sudo_password': 'env:OF_ALL'}",
                "spark-01.yaml": IDLE,
                "spark-02.yaml": f'ssh: {{hostname: h, sudo_password: "{source}"}}\n{IDLE}',
            }
        )
        .load()
        .hosts
    )
    assert [host.sudo_password for host in hosts] == ["env:OF_ALL", source]
    assert dict(hosts[1].ssh) == {"ssh_hostname": "h"}  # nothing of pyinfra's


def test_a_password_in_place_of_its_source_is_refused_and_never_repeated(
    fleet: Callable[..., FleetFiles],
) -> None:
    diagnostic = fleet({"spark-01.yaml": "ssh: {sudo_password: correct horse}\n"}).diagnostic()
    assert diagnostic.location.endswith("spark-01.yaml:1")
    assert "env:NAME" in diagnostic.expected
    assert "horse" not in str(diagnostic)
