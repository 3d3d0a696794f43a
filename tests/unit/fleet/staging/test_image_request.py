"""What a Spark is asked to fetch of an image."""

from __future__ import annotations

from sparkfleet.contract.stage import StageRequest
from sparkfleet.fleet.staging.stage_job import image_request
from tests.unit.desired_state.test_derived_packages import ADDED, BASE, IMAGE


def test_an_image_of_a_registry_is_pulled_by_digest() -> None:
    for alone in (True, False):
        request = image_request(BASE, alone=alone)
        assert request == StageRequest(request.id, images=(BASE.pull_ref,))


def test_a_derived_image_is_built_from_its_base_and_its_locked_wheels() -> None:
    (order,) = image_request(IMAGE, alone=True).derived
    assert (order.image, order.base) == (IMAGE.pull_ref, BASE.pull_ref)
    assert order.install == tuple(ADDED.install)
    assert {wheel.name: wheel.sha256 for wheel in order.wheels} == {
        wheel.name: wheel.sha256 for wheel in ADDED.wheels
    }
    assert order.labels["io.sparkfleet.base"] == BASE.full_ref
    assert order.labels["io.sparkfleet.packages"] == "ray 2.60.0, msgpack 1.1"


def test_a_download_of_models_builds_nothing() -> None:
    requested = image_request(IMAGE, alone=False)
    assert requested == StageRequest(requested.id, images=(BASE.pull_ref,), skip_if_image=IMAGE.pull_ref)
