"""All errors of all files are reported at once: the golden file is what a user reads."""

import shutil
from pathlib import Path

import pytest

from sparkfleet.contract.diagnostic import SparkfleetError
from sparkfleet.errors import error_text
from sparkfleet.inventory import load_fleet

MALFORMED = Path(__file__).with_name("malformed")
EXPECTED = MALFORMED / "expected.txt"


@pytest.mark.provokes(
    "image-name-invalid",
    "secret-exposed",
    "service-name-taken",
    "variable-name-invalid",
    "yaml-empty",
    "yaml-unsupported",
)
def test_all_mistakes_of_all_host_files_are_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(MALFORMED, tmp_path / "inventories" / "bad")
    with pytest.raises(SparkfleetError) as error:
        load_fleet(Path("inventories/bad.py"))
    output = f"{error_text(error.value)}\n"
    assert output == EXPECTED.read_text()


def test_each_malformed_file_is_named_in_the_golden_file() -> None:
    output = EXPECTED.read_text()
    for path in MALFORMED.glob("*.y*ml"):
        assert f"inventories/bad/{path.name}" in output
