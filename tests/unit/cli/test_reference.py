"""The generated reference is what the code says now."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sparkfleet.catalog.load import SHIPPED
from sparkfleet.config.yaml_file import read

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_reference", ROOT / "tools" / "generate_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def test_every_page_is_current() -> None:
    # A process of its own: click keeps the names of a command's help option from whoever invoked it first.
    argv = [sys.executable, str(ROOT / "tools" / "generate_reference.py"), "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_field_that_a_user_may_write_is_described(generator: ModuleType) -> None:
    for page in generator.PAGES.values():
        for _, model in page.tables:
            for name, field in model.model_fields.items():
                assert field.description, f"{model.__name__}.{name} has no description"


def test_every_shipped_file_names_a_schema_that_is_there() -> None:
    shipped = [*SHIPPED.glob("*.yaml"), *(ROOT / "inventories").glob("*/*.yaml")]
    assert shipped
    for path in shipped:
        first = path.read_text().splitlines()[0]
        schema = first.removeprefix("# yaml-language-server: $schema=")
        assert schema != first, f"{path} names no schema"
        assert json.loads((path.parent / schema).read_text())["$schema"]


def test_the_schemas_keys_are_those_of_the_shipped_files() -> None:
    schema = json.loads((ROOT / "docs/schema/recipe.json").read_text())
    for path in SHIPPED.glob("*.yaml"):
        assert read(path).data.keys() <= schema["properties"].keys()


def test_the_codes_of_a_section_are_in_alphabetical_order(generator: ModuleType) -> None:
    _, *sections = generator.errors().split("\n## ")
    for section in sections:
        codes = [line for line in section.splitlines() if line.startswith("### ")]
        assert codes
        assert codes == sorted(codes)
