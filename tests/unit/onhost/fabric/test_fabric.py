"""A change of the links: made whole and proved, or put back as it was; whoever dies meanwhile."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.contract.fabric import MARK, FabricRequest, FabricResult, Peer, links_of
from sparkfleet.onhost.fabric import fabric, netplan
from sparkfleet.onhost.machine.system import CommandResult, System
from sparkfleet.onhost.state.journal import read_events
from tests.unit.onhost.fabric_world import Netdev, Network, PowerCut

TEXT = f"""{MARK} for the cluster pair: spark-01, spark-02.
network:
  version: 2
  ethernets:
    fab0:
      addresses: [192.168.176.1/24]
      mtu: 9000
    fab1:
      addresses: [192.168.177.1/24]
      mtu: 9000
"""
REQUEST = FabricRequest(
    id="fabric-1",
    cluster="pair",
    text=TEXT,
    addresses=(("fab0", "192.168.176.1/24"), ("fab1", "192.168.177.1/24")),
    mtu=9000,
    rdma=(),
    drop=(("fab1", "10.9.9.9/24"),),
    management=("enP7s7",),
    peers=(Peer("spark-02", "fab0", "192.168.176.2"), Peer("spark-02", "fab1", "192.168.177.2")),
    renderer="networkd",
    wait_s=45,
)


@pytest.fixture
def net(tmp_path: Path) -> Network:
    return Network(tmp_path)


def begin(net: Network, request: FabricRequest = REQUEST) -> System:
    system: Any = net
    fabric.begin(system, request)
    made: System = system
    return made


def confirmed(net: Network, job: str = "fabric-1") -> None:
    net.on_sleep = lambda _: fabric.confirm(net, job)  # type: ignore[arg-type]


def test_links_get_their_addresses_when_everything_answers(net: Network) -> None:
    system = begin(net)
    confirmed(net)
    result = fabric.run(system, "fabric-1")
    assert result.outcome == fabric.LINKED
    assert net.netdevs["fab0"].addresses == ["192.168.176.1/24"]
    assert net.netdevs["fab1"].addresses == ["192.168.177.1/24"]
    assert net.text == TEXT
    assert (net.paths.netplan / "60-sparkfleet-fabric.yaml").stat().st_mode & 0o777 == 0o600


def test_what_was_proved_is_kept_as_evidence(net: Network) -> None:
    system = begin(net)
    confirmed(net)
    fabric.run(system, "fabric-1")
    evidence = json.loads((net.paths.state / "evidence/fabric-pair.json").read_text())
    assert [(one["peer"], one["link"], one["mtu"], one["diagnostic"]) for one in evidence["peers"]] == [
        ("spark-02", "fab0", 9000, None),
        ("spark-02", "fab1", 9000, None),
    ]


def rdma(net: Network, device: str, state: str) -> None:
    path = net.paths.rdma / device / "ports/1/state"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{state}\n")


def test_rdma_is_looked_at_and_kept_as_evidence_and_what_the_kernel_does_not_tell_is_no_error(
    net: Network,
) -> None:
    rdma(net, "rocep1s0f1", "4: ACTIVE")
    system = begin(net, replace(REQUEST, rdma=(("fab0", "rocep1s0f1"), ("fab1", "mlx5_1"))))
    confirmed(net)
    assert fabric.run(system, "fabric-1").outcome == fabric.LINKED
    evidence = json.loads((net.paths.state / "evidence/fabric-pair.json").read_text())
    assert evidence["rdma"] == {
        "fab0": {"device": "rocep1s0f1", "state": "ACTIVE"},
        "fab1": {"device": "mlx5_1", "state": ""},
    }


@pytest.mark.provokes("fabric-link-differs")
def test_an_rdma_device_that_is_down_is_named_and_everything_is_reverted(net: Network) -> None:
    before = everything(net)
    rdma(net, "rocep1s0f1", "1: DOWN")
    begin(net, replace(REQUEST, rdma=(("fab0", "rocep1s0f1"),)))
    confirmed(net)
    returned(net, before, "rocep1s0f1, the RDMA device of fab0, is DOWN")


def everything(net: Network) -> object:
    files = {path.name: path.read_text() for path in net.paths.netplan.iterdir()}
    return copy.deepcopy((files, net.netdevs, net.networkd))


def message(result: FabricResult) -> str:
    return result.diagnostic.line if result.diagnostic else ""


def returned(net: Network, before: object, cause: str) -> None:
    """Assert that the job went back, for this cause, and that nothing is left of it."""
    result = fabric.run(net, "fabric-1")  # type: ignore[arg-type]
    assert result.outcome == fabric.RETURNED
    assert cause in message(result)
    assert everything(net) == before


@pytest.mark.provokes("fabric-not-confirmed")
def test_without_a_new_connection_everything_is_reverted(net: Network) -> None:
    before = everything(net)
    begin(net)
    returned(net, before, "the operator did not open a new connection")


@pytest.mark.provokes("fabric-peer-silent")
def test_a_peer_that_does_not_answer_is_named_and_everything_is_reverted(net: Network) -> None:
    before = everything(net)
    begin(net)
    confirmed(net)
    net.passes = 0
    returned(net, before, "spark-02 (192.168.176.2) does not answer over fab0")


@pytest.mark.provokes("fabric-mtu-too-large")
def test_a_smaller_mtu_on_the_path_is_distinguished_from_silence_without_waiting_for_the_timeout(
    net: Network,
) -> None:
    before = everything(net)
    begin(net)
    confirmed(net)
    net.passes = 1500
    began = net.clock
    returned(net, before, "not to packets of 9000 bytes")
    assert net.clock - began < REQUEST.wait_s


def test_a_cable_that_is_pulled_meanwhile_is_named_and_not_waited_for_to_the_end(net: Network) -> None:
    begin(net)
    confirmed(net)
    before = everything(net)
    began = net.clock

    def pulled(argv: tuple[str, ...]) -> None:
        if argv == ("networkctl", "reload"):
            net.netdevs["fab0"].carrier = False

    net.hook = pulled
    net.passes = 0
    result = fabric.run(net, "fabric-1")  # type: ignore[arg-type]
    assert (result.outcome, "fab0 has no carrier" in message(result)) == (fabric.RETURNED, True)
    assert net.clock - began < REQUEST.wait_s / 2
    net.netdevs["fab0"].carrier = True
    assert everything(net) == before


def test_a_link_that_is_dark_for_a_moment_is_waited_for(net: Network) -> None:
    system = begin(net)
    net.netdevs["fab0"].carrier = False

    def later(now: float) -> None:
        fabric.confirm(system, "fabric-1")
        net.netdevs["fab0"].carrier = now > 1010

    net.on_sleep = later
    assert fabric.run(system, "fabric-1").outcome == fabric.LINKED


def test_peers_that_come_up_later_are_waited_for(net: Network) -> None:
    system = begin(net)
    net.passes = 0

    def later(now: float) -> None:
        fabric.confirm(system, "fabric-1")
        net.passes = 0 if now < 1020 else 1500 if now < 1022 else 9000

    net.on_sleep = later
    assert fabric.run(system, "fabric-1").outcome == fabric.LINKED


def lose(net: Network, *, address: bool) -> None:
    def take(argv: tuple[str, ...]) -> None:
        if argv == ("networkctl", "reload"):
            net.netdevs["enP7s7"].routes.clear()
            if address:
                net.netdevs["enP7s7"].addresses.clear()

    net.hook = take


@pytest.mark.parametrize("address", [True, False], ids=["address", "default route"])
def test_a_lost_management_network_is_restored_without_help(net: Network, address: bool) -> None:
    before = everything(net)
    begin(net)
    confirmed(net)
    lose(net, address=address)
    began = net.clock
    returned(net, before, "the management network was lost: enP7s7 lost")
    assert net.clock - began < 5


@pytest.mark.provokes("fabric-management-lost")
def test_a_management_network_lost_after_all_peers_answered_is_restored(net: Network) -> None:
    before = everything(net)
    system = begin(net)

    def later(now: float) -> None:
        fabric.confirm(system, "fabric-1")
        if 1003 < now < 1004:
            net.netdevs["enP7s7"].addresses.clear()

    net.on_sleep = later
    returned(net, before, "the management network was lost")


def test_the_management_link_itself_is_never_configured(net: Network) -> None:
    system = begin(net)
    confirmed(net)
    fabric.run(system, "fabric-1")
    changing = [argv for argv in net.ran if argv[0] in {"networkctl", "nmcli"} or argv[1:2] == ("link",)]
    assert changing
    assert not [argv for argv in changing if "enP7s7" in argv]
    assert not [argv for argv in net.ran if argv[:2] == ("netplan", "apply")]


@pytest.mark.provokes("fabric-change-failed")
def test_a_file_that_netplan_refuses_is_never_put_in_place(net: Network) -> None:
    before = everything(net)
    system = begin(net)
    net.refuses = "Error in network definition: unknown key"
    result = fabric.run(system, "fabric-1")
    assert result.outcome == fabric.REFUSED
    assert "unknown key" in message(result)
    assert everything(net) == before


@pytest.mark.provokes("fabric-change-failed")
def test_a_failed_renderer_is_reported_and_everything_is_reverted(net: Network) -> None:
    before = everything(net)
    begin(net)
    original = net._run

    def fails(argv: list[str]) -> CommandResult:
        return (
            CommandResult(1, err="Unknown object")
            if argv[:2] == ["networkctl", "reconfigure"]
            else original(argv)
        )

    net._run = fails  # type: ignore[method-assign]
    returned(net, before, "networkctl reconfigure fab0: Unknown object")


@pytest.mark.provokes("fabric-other-end-failed")
def test_the_operator_can_revert_it_at_once(net: Network) -> None:
    before = everything(net)
    system = begin(net)
    fabric.give_up(system, "fabric-1", "spark-02, at the other end, could not be linked")
    returned(net, before, "spark-02, at the other end")


def commands_of_a_run(tmp_path: Path) -> int:
    net = Network(tmp_path / "count")
    system = begin(net)
    confirmed(net)
    began = len(net.ran)
    fabric.run(system, "fabric-1")
    return len(net.ran) - began


def test_a_power_cut_after_any_command_leaves_what_was_or_what_was_asked_for(tmp_path: Path) -> None:
    for stop_at in range(1, commands_of_a_run(tmp_path) + 1):
        net = Network(tmp_path / str(stop_at))
        before = everything(net)
        system = begin(net)
        confirmed(net)
        began = len(net.ran)

        def cut(_: tuple[str, ...], net: Network = net, at: int = began + stop_at) -> None:
            if len(net.ran) == at:
                raise PowerCut

        net.hook = cut
        with pytest.raises(PowerCut):
            fabric.run(system, "fabric-1")
        net.hook = lambda _: None
        assert fabric.recover(system) == ["fabric-1"]
        events = read_events(fabric.folder(system, "fabric-1"))
        (result,) = [event.result for event in events if event.result]
        done = result["outcome"] == fabric.LINKED
        assert done == (net.text == TEXT)
        if not done:
            assert everything(net) == before
        assert fabric.recover(system) == []


def interrupted(net: Network, system: System) -> None:
    """Run the job until a power cut in the middle of its changes."""

    def cut(argv: tuple[str, ...]) -> None:
        if argv == ("networkctl", "reconfigure", "fab1"):
            raise PowerCut

    net.hook = cut
    with pytest.raises(PowerCut):
        fabric.run(system, "fabric-1")
    net.hook = lambda _: None


def test_after_a_power_cut_what_was_half_done_is_never_taken_for_what_was(net: Network) -> None:
    before = everything(net)
    system = begin(net)
    interrupted(net, system)
    net.passes = 0  # the other Spark went off, too
    assert fabric.recover(system) == ["fabric-1"]
    assert everything(net) == before


def test_a_job_whose_request_cannot_be_read_is_ended_and_no_change_waits_for_it(net: Network) -> None:
    before = everything(net)
    system = begin(net)
    (fabric.folder(system, "fabric-1") / "request.json").write_text("")
    assert fabric.recover(system) == ["fabric-1"]
    assert everything(net) == before
    (result,) = fabric.follow(system, "fabric-1", 0, 0)
    assert result.result is not None
    assert "is empty" in str(result.result["diagnostic"])
    begin(net, FabricRequest.removal("fabric-2"))  # raises where another job is in progress


@pytest.mark.provokes("contract-newer")
@pytest.mark.parametrize("name", ["request.json", "before.json", "events.jsonl"])
def test_a_job_of_a_newer_version_is_refused_and_left_for_newer_programs(net: Network, name: str) -> None:
    before = everything(net)
    system = begin(net)
    interrupted(net, system)
    changed = everything(net)
    assert changed != before
    path = fabric.folder(system, "fabric-1") / name
    text = path.read_text()
    newer = text.replace('"version": ', '"version": 9')
    assert newer != text
    path.write_text(newer)
    for refused in (
        lambda: fabric.run(system, "fabric-1"),
        lambda: fabric.follow(system, "fabric-1", 100, 0),
        lambda: begin(net, FabricRequest.removal("fabric-2")),
    ):
        with pytest.raises(ContractError, match="written by a newer sparkfleet") as error:
            refused()
        assert error.value.diagnostic.code == "contract-newer"
        assert error.value.diagnostic.hint.startswith("update sparkfleet on the operator's machine")
    assert fabric.recover(system) == []
    assert fabric.unfinished(system) == ["fabric-1"]
    assert (path.read_text(), everything(net)) == (newer, changed)
    path.write_text(text)  # as newer programs read it
    assert fabric.recover(system) == ["fabric-1"]
    assert everything(net) == before


def test_events_of_a_job_that_cannot_be_read_are_moved_away(net: Network) -> None:
    system = begin(net)
    events = fabric.folder(system, "fabric-1") / "events.jsonl"
    events.write_text("[]\n")
    assert fabric.run(system, "fabric-1").outcome == "lost"
    assert events.with_name("events.jsonl.unreadable").read_text() == "[]\n"
    assert fabric.unfinished(system) == []


def test_leaving_the_cluster_takes_the_file_and_its_addresses_back_and_nothing_else(net: Network) -> None:
    net.netdevs["fab1"].addresses = []
    before = everything(net)
    system = begin(net)
    confirmed(net)
    fabric.run(system, "fabric-1")
    net.netdevs["fab0"].addresses.append("10.1.1.1/24")  # by hand
    begin(net, FabricRequest.removal("fabric-2"))
    confirmed(net, "fabric-2")
    assert fabric.run(system, "fabric-2").outcome == fabric.REMOVED
    assert net.netdevs["fab0"].addresses == ["10.1.1.1/24"]
    net.netdevs["fab0"].addresses = []
    net.networkd = "inactive"
    assert everything(net) == before


def test_a_removal_is_reverted_if_the_management_network_is_lost(
    net: Network,
) -> None:
    net.netdevs["wlP9s9"] = Netdev(["192.168.7.7/24"])  # how the operator comes in; no default route
    system = begin(net, replace(REQUEST, management=("wlP9s9",)))
    confirmed(net)
    assert fabric.run(system, "fabric-1").outcome == fabric.LINKED
    before = everything(net)
    begin(net, FabricRequest.removal("fabric-2"))
    confirmed(net, "fabric-2")

    def take(argv: tuple[str, ...]) -> None:
        if argv == ("networkctl", "reload"):
            net.netdevs["wlP9s9"].addresses.clear()

    net.hook = take
    result = fabric.run(system, "fabric-2")
    assert (result.outcome, "wlP9s9 lost 192.168.7.7/24" in message(result)) == (fabric.RETURNED, True)
    assert everything(net) == before


def test_leaving_is_done_by_the_renderer_that_the_links_were_made_with(net: Network) -> None:
    system = begin(net, replace(REQUEST, renderer="NetworkManager"))
    confirmed(net)
    fabric.run(system, "fabric-1")
    began = len(net.ran)
    begin(net, FabricRequest.removal("fabric-2"))
    confirmed(net, "fabric-2")
    assert fabric.run(system, "fabric-2").outcome == fabric.REMOVED
    commands = [argv[0] for argv in net.ran[began:] if argv[0] in {"nmcli", "networkctl"}]
    assert commands == ["nmcli"]


def test_a_second_cable_later_does_not_forget_what_the_first_links_were(net: Network) -> None:
    one = TEXT[: TEXT.index("    fab1")]
    system = begin(net, replace(REQUEST, text=one, addresses=REQUEST.addresses[:1], peers=REQUEST.peers[:1]))
    confirmed(net)
    fabric.run(system, "fabric-1")
    begin(net, replace(REQUEST, id="fabric-2"))
    confirmed(net, "fabric-2")
    fabric.run(system, "fabric-2")
    begin(net, FabricRequest.removal("fabric-3"))
    confirmed(net, "fabric-3")
    assert fabric.run(system, "fabric-3").outcome == fabric.REMOVED
    assert [net.netdevs[name].mtu for name in ("fab0", "fab1")] == [1500, 1500]


def test_networkmanager_is_asked_for_our_links_alone(net: Network) -> None:
    system = begin(net, replace(REQUEST, renderer="NetworkManager"))
    confirmed(net)
    assert fabric.run(system, "fabric-1").outcome == fabric.LINKED
    commands = [argv for argv in net.ran if argv[0] == "nmcli"]
    assert commands == [
        ("nmcli", "connection", "reload"),
        ("nmcli", "connection", "up", "netplan-fab0"),
        ("nmcli", "connection", "up", "netplan-fab1"),
    ]
    assert not [argv for argv in net.ran if argv[0] == "networkctl"]


def test_addresses_that_networkmanager_removes_later_are_restored(net: Network) -> None:
    before = everything(net)
    begin(net, replace(REQUEST, renderer="NetworkManager"))
    sleeps = iter(range(1000))

    def flush(_: float) -> None:
        if net.text == "" and next(sleeps) == 1:
            net.netdevs["fab1"].addresses.clear()

    net.on_sleep = flush
    fabric.run(net, "fabric-1")  # type: ignore[arg-type]
    for _ in range(3):
        net.sleep(1)
    assert everything(net) == before


def test_what_cannot_be_reverted_is_reported(net: Network) -> None:
    begin(net)
    original = net._run

    def fails(argv: list[str]) -> CommandResult:
        return CommandResult(2, err="no buffer") if argv[:3] == ["ip", "address", "add"] else original(argv)

    net._run = fails  # type: ignore[method-assign]
    result = fabric.run(net, "fabric-1")  # type: ignore[arg-type]
    assert "except: ip address add 10.9.9.9/24 dev fab1: no buffer" in message(result)


def test_asked_twice_a_job_is_started_once_and_one_at_a_time(net: Network) -> None:
    system = begin(net)
    fabric.begin(system, REQUEST)
    assert len([argv for argv in net.ran if argv[0] == "systemd-run"]) == 1
    net.unit = "active"
    with pytest.raises(SparkfleetError, match="another change of the links is in progress: fabric-1"):
        fabric.begin(system, replace(REQUEST, id="fabric-2"))


def test_a_job_that_was_stopped_by_hand_is_reverted_before_another_one_begins(net: Network) -> None:
    system = begin(net)
    began = len(net.ran)
    with pytest.raises(
        SparkfleetError, match=r"an interrupted change of the links \(fabric-1\) is being reverted"
    ):
        fabric.begin(system, replace(REQUEST, id="fabric-2"))
    assert [argv[-1] for argv in net.ran[began:] if argv[0] == "systemd-run"] == ["fabric-1"]


def test_a_job_that_cannot_be_started_leaves_nothing(net: Network) -> None:
    net._run = lambda argv: CommandResult(1, err="no bus")  # type: ignore[method-assign]
    with pytest.raises(SparkfleetError, match="no bus"):
        begin(net)
    assert fabric.unfinished(net) == []  # type: ignore[arg-type]


def test_following_ends_with_the_result_or_says_that_the_job_is_lost(net: Network) -> None:
    system = begin(net)
    (event,) = fabric.follow(system, "fabric-1", 0, 1)
    assert event.result
    assert event.result["outcome"] == "lost"
    confirmed(net)
    fabric.run(system, "fabric-1")
    events = fabric.follow(system, "fabric-1", 0, 1)
    assert [event.step for event in events[:-1]] == ["apply", "watch", "keep"]
    assert events[-1].result
    assert events[-1].result["outcome"] == fabric.LINKED
    assert fabric.run(system, "fabric-1").outcome == fabric.LINKED  # again: the same answer


def test_following_ends_with_a_result_whose_event_was_lost(net: Network) -> None:
    system = begin(net)
    confirmed(net)
    fabric.run(system, "fabric-1")
    events = fabric.folder(system, "fabric-1") / "events.jsonl"
    events.write_text("".join(events.read_text().splitlines(keepends=True)[:-1]))
    seen = fabric.follow(system, "fabric-1", 0, 1)
    (end,) = fabric.follow(system, "fabric-1", len(seen) - 1, 1)
    assert seen[-1] == end
    assert end.result
    assert end.result["outcome"] == fabric.LINKED


@pytest.mark.parametrize("name", ["id", "text", "addresses", "rdma", "drop", "management", "peers", "all"])
def test_a_job_whose_request_is_truncated_changes_no_link(net: Network, name: str) -> None:
    before = everything(net)
    system = begin(net)
    path = fabric.folder(system, "fabric-1") / "request.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({key: whole[key] for key in whole if name not in {key, "all"}}))
    result = fabric.run(system, "fabric-1")
    assert result.outcome == "lost"
    assert f"{path}: {'id' if name == 'all' else name}: is missing" in message(result)
    assert everything(net) == before


def test_following_waits_while_the_job_runs(net: Network) -> None:
    system = begin(net)
    net.unit = "active"
    assert fabric.follow(system, "fabric-1", 0, 3) == []
    assert net.clock > 1002


def test_jobs_that_ended_long_ago_are_forgotten(net: Network) -> None:
    system: Any = net
    for number in range(fabric.KEPT_JOBS + 3):
        begin(net, replace(REQUEST, id=f"fabric-{number}", text=""))
        fabric.give_up(system, f"fabric-{number}", "x")
        fabric.run(system, f"fabric-{number}")
    assert len(list((net.paths.state / "fabric").glob("fabric-*"))) <= fabric.KEPT_JOBS + 1


@pytest.mark.parametrize("job", ["../x", "swap-1", "fabric-", "fabric-" + "x" * 60])
def test_no_other_path_is_a_job(net: Network, job: str) -> None:
    with pytest.raises(ValueError, match="bad"):
        fabric.folder(net, job)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bad"):
        FabricRequest.from_json({**REQUEST.to_json(), "id": job})
    with pytest.raises(FileNotFoundError):
        fabric.confirm(net, "fabric-none")  # type: ignore[arg-type]


def test_a_request_survives_json_and_anything_else_is_refused() -> None:
    assert FabricRequest.from_json(json.loads(json.dumps(REQUEST.to_json()))) == REQUEST
    for bad in ({"id": 1}, {**REQUEST.to_json(), "peers": [{}]}, {**REQUEST.to_json(), "version": 99}):
        with pytest.raises(ContractError, match="fabric request"):
            FabricRequest.from_json(bad)


def test_a_foreign_file_names_no_links_of_ours() -> None:
    assert links_of(TEXT) == ("fab0", "fab1")
    assert links_of(TEXT.replace(MARK, "# by hand")) == ()


def test_without_any_netplan_directory_a_file_is_still_tried_first(net: Network) -> None:
    (net.paths.netplan / "01-theirs.yaml").unlink()
    net.paths.netplan.rmdir()
    assert netplan.refusal(net, TEXT) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["[]", '{"mtu": 7}', '{"version": 99}'])
def test_a_record_of_the_links_that_cannot_be_read_is_named_before_anything_changes(
    net: Network, text: str
) -> None:
    before = everything(net)
    system = begin(net)
    path = net.paths.state / "fabric" / "untouched.json"
    path.write_text(text)
    result = fabric.run(system, "fabric-1")
    assert result.outcome == fabric.REFUSED
    assert str(path) in message(result)
    assert result.diagnostic
    assert result.diagnostic.hint
    assert (everything(net), path.read_text()) == (before, text)
