"""The tool that reads a release's schema from its wheel, without the download and the installation."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sparkfleet.engines.vllm.schema import load
from sparkfleet_lab.standins.package import write_engine

TOOL = Path(__file__).parents[3] / "tools" / "dump_vllm_release.py"
METADATA = """\
Metadata-Version: 2.4
Name: vllm
Requires-Dist: regex
Requires-Dist: fastapi[standard]<0.137.0,>=0.133.0
Requires-Dist: torch==2.13.0
Requires-Dist: flashinfer-python==0.7.0
Requires-Dist: nvidia-cutlass-dsl[cu13]==4.7.1
Requires-Dist: protobuf==7.36.1; platform_machine == "s390x"
Requires-Dist: six>=1.16.0; python_version > "3.8"
Requires-Dist: ray[cgraph]>=2.48.0; extra == "ray"
Requires-Dist: boto3; extra == "tensorizer"
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dump_vllm_release", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_the_parser_needs_is_installed_without_what_needs_a_gpu(
    tool: ModuleType, tmp_path: Path
) -> None:
    metadata = tmp_path / "vllm-1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(METADATA)
    assert tool.requirements(tmp_path) == [
        "regex", "fastapi[standard]<0.137.0,>=0.133.0", "torch==2.13.0", "six>=1.16.0",
    ]  # fmt: skip


def test_a_release_is_dumped_by_its_own_parser(tool: ModuleType, tmp_path: Path) -> None:
    write_engine(tmp_path, "0.31.0", "0.31.0")
    auto = tmp_path / "transformers" / "models" / "auto"
    auto.mkdir(parents=True)
    (auto / "configuration_auto.py").write_text("CONFIG_MAPPING_NAMES = {}")
    dump = tool.dump(Path(sys.executable), tmp_path)
    assert dump["vllm_version"] == "0.31.0"
    assert set(dump["flags"]) == set(load("0.31.0").flags)


def test_a_dump_that_lacks_something_is_refused(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("")
    with pytest.raises(SystemExit, match="did not return its whole schema"):
        tool.dump(Path(sys.executable), tmp_path)
