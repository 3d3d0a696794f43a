"""A fleet's own recipes: added to the shipped ones, extending others, and reported if invalid."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.catalog.load import Catalog, recipes
from sparkfleet.contract.diagnostic import SparkfleetError
from tests.unit.config.fleet_files import NANO, SMALL, FleetFiles


def catalog(fleet: Callable[..., FleetFiles], files: dict[str, str]) -> Catalog:
    return Catalog.of(fleet({f"recipes/{name}": text for name, text in files.items()}).directory / "recipes")


def diagnostics(fleet: Callable[..., FleetFiles], files: dict[str, str]) -> Any:
    with pytest.raises(SparkfleetError) as error:
        catalog(fleet, files)
    return error.value.diagnostics


def test_an_own_recipe_stands_beside_the_shipped_ones(fleet: Callable[..., FleetFiles]) -> None:
    text = "recipe: own\ntitle: T\nsource: me\nmodel: a/b\nimage: x/y:z\n"
    found = catalog(fleet, {"own.yaml": text})
    assert found["own"].model == "a/b"
    assert SMALL in found
    assert len(found) == len(Catalog.of()) + 1


def test_a_recipe_extends_another_key_by_key(fleet: Callable[..., FleetFiles]) -> None:
    flags = "{max_model_len: 1024, reasoning-parser: null}"
    text = f"recipe: own\nextends: {NANO}\nflags: {flags}\nenv: {{A: b}}\n"
    found = catalog(fleet, {"own.yaml": text})["own"]
    assert found.flags["max-model-len"] == 1024
    assert "reasoning-parser" not in found.flags
    assert found.flags["kv-cache-dtype"] == "fp8"
    assert found.env == {"A": "b"}
    assert found.model == "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4"
    assert found.requires.engine == ">=0.17.1"


def test_links_belong_to_the_source_that_names_them(fleet: Callable[..., FleetFiles]) -> None:
    link = "https://example.org/page"
    files = {
        "base.yaml": f"recipe: base\ntitle: T\nsource: one\nlinks: [{link}]\nmodel: a/b\nimage: x/y:z\n",
        "same.yaml": "recipe: same\nextends: base\n",
        "other.yaml": "recipe: other\nextends: base\nsource: two\n",
    }
    found = catalog(fleet, files)
    assert (found["same"].links, found["other"].links) == ((link,), ())


def test_recipes_extend_over_several_steps(fleet: Callable[..., FleetFiles]) -> None:
    files = {
        "one.yaml": f"recipe: one\nextends: {SMALL}\nflags: {{max-num-seqs: 1}}\n",
        "two.yaml": "recipe: two\nextends: one\nflags: {max-model-len: 2}\n",
    }
    flags = catalog(fleet, files)["two"].flags
    assert (flags["max-num-seqs"], flags["max-model-len"], flags["tool-call-parser"]) == (1, 2, "openai")


def test_each_value_knows_the_file_that_set_it(fleet: Callable[..., FleetFiles]) -> None:
    found = catalog(fleet, {"own.yaml": f"recipe: own\nextends: {NANO}\nflags:\n  max_model_len: 1024\n"})
    assert found.where("own", ("flags", "max-model-len")) == "inventories/lab/recipes/own.yaml:4"
    assert found.where("own", ("flags", "kv-cache-dtype")).startswith(f"catalog/{NANO}.yaml:")


@pytest.mark.provokes("recipe-name-invalid", "recipe-name-taken")
@pytest.mark.parametrize(
    ("name", "text", "where", "found"),
    [
        ("own.yaml", "recipe: own\nextends: own\n", ":2", "cyclic 'extends': own -> own"),
        (
            "own.yaml",
            "recipe: own\nextends: gpt-os-20b\n",
            ":2",
            "'extends' names an unknown recipe: 'gpt-os-20b'",
        ),
        ("own.yaml", "recipe: other\nextends: gpt-oss-20b\n", ":1", "'recipe' is 'other'"),
        ("own.yaml", "title: x\nextends: gpt-oss-20b\n", ":1", "missing key 'recipe'"),
        ("own.yaml", "- x\n", ":1", "the file is a list"),
        ("own.yaml", "recipe: own\ntitle: x\nimage: y:z\n", ":1", "missing key 'source'"),
        ("own.yaml", f"recipe: own\nextends: {SMALL}\nflag: {{}}\n", ":3", "unknown key 'flag'"),
        (
            "own.yaml",
            f"recipe: own\nextends: {SMALL}\nmodel_info: {{context: x}}\n",
            ":3",
            "'model_info.context' is 'x'",
        ),
        (
            "own.yaml",
            f"recipe: own\nextends: {SMALL}\nlinks: ['http://example.org']\n",
            ":3",
            "'links[0]' is 'http://example.org'",
        ),
        ("own.yml", "recipe: own\n", "", "ends with '.yml'"),
        (f"{SMALL}.yaml", f"recipe: {SMALL}\n", "", "the shipped catalog already has a recipe"),
    ],
)
def test_a_mistake_is_reported_with_its_place(
    fleet: Callable[..., FleetFiles], name: Any, text: Any, where: str, found: str
) -> None:
    (diagnostic,) = diagnostics(fleet, {name: text})
    assert diagnostic.location == f"inventories/lab/recipes/{name}{where}"
    assert found in diagnostic.message
    assert diagnostic.hint


def test_a_recipe_without_its_name_is_reported_with_its_other_mistakes(
    fleet: Callable[..., FleetFiles],
) -> None:
    found = diagnostics(fleet, {"own.yaml": "name: own\nsource: x\nimage: y:z\n"})
    assert [one.message for one in found][:2] == ["missing key 'recipe'", "missing key 'title'"]
    assert "unknown key 'name'" in {one.message for one in found}
    assert found[0].hint == "add 'recipe: own'"


@pytest.mark.provokes("recipe-extends-invalid")
def test_the_nearest_recipe_is_named(fleet: Callable[..., FleetFiles]) -> None:
    (diagnostic,) = diagnostics(fleet, {"own.yaml": "recipe: own\nextends: gpt-os-20b\n"})
    assert diagnostic.hint == f"did you mean '{SMALL}'?"


def test_a_circle_is_reported_once_for_each_recipe_in_it(fleet: Callable[..., FleetFiles]) -> None:
    found = diagnostics(
        fleet, {"one.yaml": "recipe: one\nextends: two\n", "two.yaml": "recipe: two\nextends: one\n"}
    )
    assert {diagnostic.message for diagnostic in found} == {
        "cyclic 'extends': one -> two -> one",
        "cyclic 'extends': two -> one -> two",
    }


def test_all_mistakes_of_all_recipes_come_at_once(fleet: Callable[..., FleetFiles]) -> None:
    found = diagnostics(fleet, {"one.yaml": "- x\n", "two.yaml": "- x\n", "three.yml": "x: 1\n"})
    assert len(found) == 3


@pytest.mark.provokes("yaml-missing-key")
def test_a_broken_recipe_is_reported_even_if_it_is_unused(fleet: Callable[..., FleetFiles]) -> None:
    files = fleet({"spark-01.yaml": f"serve: {SMALL}\n", "recipes/own.yaml": "recipe: own\n"})
    assert files.diagnostics()[0].location == "inventories/lab/recipes/own.yaml:1"


def test_there_need_be_no_own_recipes(tmp_path: Path) -> None:
    assert set(recipes(tmp_path / "none")) == set(recipes())


def test_what_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        recipes()["nothing"]
