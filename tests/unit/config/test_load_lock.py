"""What the lock file gives to a fleet, and what it lacks."""

from collections.abc import Callable

import pytest

from sparkfleet.inventory import Pins, load_fleet
from tests.unit.config.fleet_files import NANO, SMALL, FleetFiles, image_of


@pytest.mark.provokes("lock-missing")
def test_a_missing_lock_file_is_one_diagnostic_that_names_the_command(
    fleet: Callable[..., FleetFiles],
) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n", "spark-02.yaml": f"serve: {SMALL}\n"})
    diagnostic = files.diagnostic(need_lock=True)
    assert diagnostic.location == "inventories/lab/fleet.lock"
    assert "image nvcr.io/nvidia/vllm:26.04-py3" in diagnostic.expected
    assert diagnostic.hint == "sparkfleet lock inventories/lab.py"


@pytest.mark.provokes("lock-entry-missing")
def test_each_entry_that_the_lock_file_lacks_is_reported_once(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    files.pin()
    fleet({"spark-02.yaml": f"serve: {NANO}\n", "spark-03.yaml": f"serve: {NANO}\n"})
    diagnostic = files.diagnostic(need_lock=True)
    assert diagnostic.message == "model nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4 is not pinned"
    assert diagnostic.hint == "sparkfleet lock inventories/lab.py"


def test_the_lock_file_gives_digest_commit_files_and_figures(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    lock = files.pin()
    service = files.load(need_lock=True).hosts[0].services[0]
    assert image_of(service).digest == lock.images["nvcr.io/nvidia/vllm:26.04-py3"].image.digest
    assert image_of(service).tag == "26.04-py3"
    assert image_of(service).entrypoint == ("/opt/nvidia/nvidia_entrypoint.sh",)
    assert len(service.weights.revision) == 40
    assert [file.path for file in service.weights.files] == ["config.json", "model.safetensors"]
    assert service.weights.size == 5_000_700
    assert service.weights.config == (("hidden_size", 64),)


def test_a_digest_in_the_host_file_needs_no_entry_for_the_image(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    files.pin()
    digest = "sha256:" + "e" * 64
    fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, image: 'nvcr.io/nvidia/vllm:26.05-py3@{digest}'}}\n"})
    image = image_of(files.load(need_lock=True).hosts[0].services[0])
    assert (image.tag, image.digest, image.entrypoint) == ("26.05-py3", digest, ())


def test_a_commit_is_found_in_the_lock_file_however_short(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    commit = files.pin().models["openai/gpt-oss-20b"].weights.revision
    for revision in (commit, commit[:7]):
        fleet({"spark-01.yaml": f"serve: {{recipe: {SMALL}, revision: '{revision}'}}\n"})
        assert files.load(need_lock=True).hosts[0].services[0].weights.revision == commit


def test_a_merge_conflict_in_the_lock_file_is_named(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": "serve: null\n"})
    entry = '  "y:z": {digest: "sha256:1", arm64: "sha256:2"}\n'
    conflict = f"<<<<<<< HEAD\n{entry}=======\n{entry}>>>>>>> other\n"
    fleet({"fleet.lock": f"version: 1\nimages:\n{conflict}"})
    (diagnostic,) = files.diagnostics(need_lock=True)
    assert diagnostic.location == "inventories/lab/fleet.lock:3"
    assert diagnostic.message == "an unresolved merge conflict"
    assert diagnostic.hint.endswith("or remove the file, then: sparkfleet lock inventories/lab.py")


@pytest.mark.provokes("yaml-syntax")
def test_a_broken_lock_file_is_reported_with_the_rest(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": "serv: x\n", "fleet.lock": "version: 1\n<<<<<<< HEAD\n"})
    found = [diagnostic.location for diagnostic in files.diagnostics(need_lock=True)]
    assert found == ["inventories/lab/fleet.lock:2", "inventories/lab/spark-01.yaml:1"]


def test_optional_pins_are_used_and_missing_ones_are_no_error(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n"})
    files.pin()
    fleet({"spark-02.yaml": f"serve: {NANO}\n"})
    one, two = load_fleet(files.inventory, pins=Pins.OPTIONAL).hosts
    assert one.services[0].is_pinned
    assert not two.services[0].is_pinned
    assert image_of(two.services[0]).tag


def test_an_unreadable_lock_file_is_a_warning_where_pins_are_optional(
    fleet: Callable[..., FleetFiles],
) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n", "fleet.lock": "version: 7\n"})
    found = load_fleet(files.inventory, pins=Pins.OPTIONAL)
    assert found.warnings == ("inventories/lab/fleet.lock:1: unsupported version 7",)
