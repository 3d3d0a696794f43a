"""Python packages of a service: asked for by recipe, file and executor; pinned where the image lacks them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sparkfleet.lock import lockfile
from tests.unit.config.fleet_files import SMALL, FleetFiles, image_of

PAIR = "hosts: [spark-01, spark-02]\n"


def one(fleet: Callable[..., FleetFiles], text: str, **more: str) -> FleetFiles:
    files = fleet({"spark-01.yaml": text, **more})
    files.pin()
    return files


def test_what_an_image_lacks_makes_a_derived_image_of_its_own_name(fleet: Callable[..., FleetFiles]) -> None:
    files = one(fleet, f"serve: {{recipe: {SMALL}, packages: {{scipy: '>=1'}}}}\n")
    image = image_of(files.load(need_lock=True).hosts[0].services[0])
    assert image.derived_packages is not None
    assert image.derived_packages.install == ("scipy>=1",)
    assert image.display.endswith(" + scipy 9.1")
    assert image.pull_ref.startswith("localhost/sparkfleet/derived:")


def test_what_the_images_vllm_requires_is_not_added(fleet: Callable[..., FleetFiles]) -> None:
    files = one(fleet, f"serve: {{recipe: {SMALL}, packages: {{mistral_common: '>=1.9'}}}}\n")
    service = files.load(need_lock=True).hosts[0].services[0]
    assert image_of(service).derived_packages is None
    assert service.requires_packages == (("mistral_common", ">=1.9"),)


def test_null_takes_a_recipes_package_away(fleet: Callable[..., FleetFiles]) -> None:
    requires = "requires: {packages: {scipy: '', extra: ''}}"
    recipe = f"recipe: own\nextends: {SMALL}\ntitle: t\nsource: s\n{requires}\n"
    files = one(fleet, "serve: {recipe: own, packages: {scipy: null}}\n", **{"recipes/own.yaml": recipe})
    service = files.load(need_lock=True).hosts[0].services[0]
    assert service.requires_packages == (("extra", ""),)


def test_a_cluster_by_ray_needs_ray_and_one_by_mp_does_not(fleet: Callable[..., FleetFiles]) -> None:
    for executor, install in (("ray", ("ray",)), ("mp", None)):
        files = fleet(
            {
                "spark-01.yaml": "{}\n",
                "spark-02.yaml": "{}\n",
                "clusters/wide.yaml": f"{PAIR}executor: {executor}\nserve: {SMALL}\n",
            }
        )
        files.pin()
        images = [image_of(host.services[0]) for host in files.load(need_lock=True).hosts]
        assert images[0] == images[1]
        assert (images[0].derived_packages.install if images[0].derived_packages else None) == install


def test_ray_of_a_range_is_what_the_cluster_file_says(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet(
        {
            "spark-01.yaml": "{}\n",
            "spark-02.yaml": "{}\n",
            "clusters/wide.yaml": f"{PAIR}serve: {{recipe: {SMALL}, packages: {{ray: '==2.55.1'}}}}\n",
        }
    )
    files.pin()
    derived = image_of(files.load(need_lock=True).hosts[0].services[0]).derived_packages
    assert derived is not None
    assert derived.install == ("ray==2.55.1",)


def test_packages_that_are_not_pinned_are_an_error_that_names_the_command(
    fleet: Callable[..., FleetFiles],
) -> None:
    files = one(fleet, f"serve: {SMALL}\n")
    (files.directory / "spark-01.yaml").write_text(f"serve: {{recipe: {SMALL}, packages: {{scipy: ''}}}}\n")
    diagnostic = files.diagnostic(need_lock=True)
    assert diagnostic.message.startswith("packages scipy for nvcr.io/nvidia/vllm")
    assert diagnostic.hint.startswith("sparkfleet lock")


def test_packages_that_were_chosen_for_another_python_are_not_pinned(
    fleet: Callable[..., FleetFiles],
) -> None:
    text = f"serve: {{recipe: {SMALL}, packages: {{scipy: ''}}}}\n"
    files = one(fleet, text)
    (files.root / "group_data").mkdir(exist_ok=True)
    (files.root / "group_data" / "all.py").write_text(
        "sparkfleet = {'python_packages': {'python': '3.13'}}\n"
    )
    assert "is not pinned" in files.diagnostic(need_lock=True).message


@pytest.mark.provokes("package-range-invalid")
def test_a_range_that_is_none_is_reported_at_its_line(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f"serve:\n  recipe: {SMALL}\n  packages:\n    scipy: new\n"})
    diagnostic = files.diagnostic()
    assert (diagnostic.location, diagnostic.expected) == (
        "inventories/lab/spark-01.yaml:4",
        "a package name and a version range",
    )


def test_the_lock_file_gives_packages_back_as_they_were(fleet: Callable[..., FleetFiles]) -> None:
    files = one(fleet, f"serve: {{recipe: {SMALL}, packages: {{scipy: '>=1'}}}}\n")
    path = files.directory / "fleet.lock"
    lock = lockfile.read(path)
    ((key, entry),) = lock.packages.items()
    assert key.endswith(" + scipy>=1")
    assert lockfile.text(lock) == path.read_text()
    assert lockfile.text(replace(lock, packages={})) == path.read_text().partition("packages:")[0]
    assert [wheel.name for wheel in entry.derived_packages.wheels] == sorted(
        wheel.name for wheel in entry.derived_packages.wheels
    )


@pytest.mark.provokes("stage-seed-required")
def test_a_cluster_whose_members_would_each_build_their_image_is_an_error(
    fleet: Callable[..., FleetFiles],
) -> None:
    hosts = {"spark-01.yaml": "{}\n", "spark-02.yaml": "{}\n"}
    group_data = "sparkfleet = {'stage': {'seed': 'none'}}\n"
    wide = {"clusters/wide.yaml": f"{PAIR}executor: ray\nserve: {SMALL}\n", "group_data/all.py": group_data}
    files = fleet({**hosts, **wide})
    files.pin()
    diagnostic = files.diagnostic(need_lock=True)
    assert "'stage.seed' is 'none'" in diagnostic.message
    plain = fleet({**hosts, **wide, "clusters/wide.yaml": f"{PAIR}executor: mp\nserve: {SMALL}\n"})
    plain.pin()
    assert plain.load(need_lock=True).hosts
