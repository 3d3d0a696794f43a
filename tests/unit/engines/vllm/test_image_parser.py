"""The program that runs inside an image is run here against a small package with vLLM's own module paths."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sparkfleet.engines.base import ArgCheck
from sparkfleet.engines.vllm import image_parser
from sparkfleet.engines.vllm.image_parser import read_check, read_schema

PACKAGE = {
    "__init__.py": "",
    "version.py": "__version__ = '0.33.0+nv26.11'",
    "platforms.py": "class P:\n    device_type = ''\ncurrent_platform = P()",
    "envs.py": "environment_variables = {'VLLM_B': 1, 'VLLM_A': 2}",
    "utils/__init__.py": "",
    "utils/argparse_utils.py": (
        "import argparse\nclass FlexibleArgumentParser(argparse.ArgumentParser):\n    _deprecated = set()\n"
    ),
    "reasoning.py": "class ReasoningParserManager:\n    reasoning_parsers = {'qwen3': 1}",
    "config.py": (
        "import dataclasses, typing\n"
        "@dataclasses.dataclass\n"
        "class SpeculativeConfig:\n"
        "    __pydantic_config__ = {'extra': 'forbid'}\n"
        "    num_speculative_tokens: int = None\n"
        "    method: typing.Literal['mtp', 'ngram'] | None = None\n"
        "    hidden: list[int] = dataclasses.field(default_factory=list, init=False)\n"
    ),
    "entrypoints/__init__.py": "",
    "entrypoints/somewhere/__init__.py": "",
    "entrypoints/somewhere/cli_args.py": (
        "import argparse, json\n"
        "from vllm.platforms import current_platform\n"
        "from vllm.config import SpeculativeConfig\n"
        "def make_arg_parser(parser):\n"
        "    assert current_platform.device_type == 'cuda'\n"
        "    print('noise on stdout')\n"
        "    def parse_dataclass(val, cls=SpeculativeConfig):\n"
        "        return cls(**json.loads(val))\n"
        "    def _optional_type(inner):\n"
        "        def _optional_type(val):\n"
        "            return None if val == 'None' else inner(val)\n"
        "        return _optional_type\n"
        "    parser.add_argument('model_tag', nargs='?')\n"
        "    parser.add_argument('--seed', type=_optional_type(int), default=0)\n"
        "    parser.add_argument('--chat-template')\n"
        "    parser.add_argument('--enable-auto-tool-choice', action='store_true')\n"
        "    parser.add_argument('--tool-call-parser', choices=['a', 'b'])\n"
        "    parser.add_argument('--trust', '-t', action=argparse.BooleanOptionalAction, default=True)\n"
        "    parser.add_argument('--names', nargs='+', type=str, help='Deprecated: say it otherwise')\n"
        "    parser.add_argument('--spec', type=parse_dataclass, default=SpeculativeConfig())\n"
        "    parser.add_argument('--speculative-config', type=json.loads)\n"
        "    return parser\n"
        "def validate_parsed_serve_args(args):\n"
        "    if args.chat_template is not None:\n"
        "        raise ValueError('no such template')\n"
        "    if args.enable_auto_tool_choice and not args.tool_call_parser:\n"
        "        raise TypeError('--enable-auto-tool-choice requires --tool-call-parser')\n"
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site")
    for name, text in PACKAGE.items():
        path = root / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def run(site: Path, *args: str) -> tuple[int, str]:
    with image_parser.SCRIPT.open() as script:
        done = subprocess.run(
            [sys.executable, "-B", "-", *args],
            stdin=script,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(site)},
            check=False,
        )
    return done.returncode, done.stdout


def ask(site: Path, *args: str) -> ArgCheck:
    return read_check(run(site, *image_parser.parse_args(args))[1])


def test_args_that_the_parser_takes_are_accepted(site: Path) -> None:
    assert ask(site, "m", "--seed", "3", "--no-trust") == ArgCheck(True, "", "0.33.0+nv26.11")


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("m", "--sead", "3"), "unrecognized arguments"),
        (("m", "--seed", "x"), "argument --seed: invalid"),
        (("m", "--tool-call-parser", "c"), "invalid choice: 'c'"),
        (("m", "--enable-auto-tool-choice"), "requires --tool-call-parser"),
        (("serve", "m"), "unrecognized arguments: m"),
    ],
)
def test_args_that_the_parser_refuses_come_with_its_own_reason(
    site: Path, args: tuple[str, ...], error: str
) -> None:
    check = ask(site, *args)
    assert check.ok is False
    assert error in check.error


def test_a_template_that_only_the_services_container_mounts_is_no_reason_to_refuse(site: Path) -> None:
    assert ask(site, "m", "--chat-template", "/templates/x.jinja").ok is True


def test_the_exit_code_tells_accepted_refused_and_not_asked(site: Path, tmp_path: Path) -> None:
    codes = [run(site, "parse", "m")[0], run(site, "parse", "--x")[0], run(tmp_path, "parse", "m")[0]]
    assert codes == [0, 1, 2]


def test_an_image_without_vllm_could_not_be_asked(tmp_path: Path) -> None:
    check = ask(tmp_path, "m")
    assert check.ok is None
    assert "No module named 'vllm'" in check.error


def test_the_schema_of_the_image_is_read_out(site: Path) -> None:
    schema = read_schema(run(site, *image_parser.schema_args())[1])
    assert schema.version == "0.33.0+nv26.11"
    seed = schema.flags["--seed"]
    assert (seed.type, seed.optional, seed.default) == ("int", True, 0)
    trust = schema.options["--no-trust"]
    assert (trust.name, trust.kind, trust.aliases) == ("--trust", "bool", ("-t",))
    assert schema.flags["--names"].nargs == "+"
    assert schema.flags["--names"].deprecated
    assert schema.flags["--spec"].json_class == "SpeculativeConfig"
    assert schema.flags["--spec"].default == {}
    assert schema.flags["--speculative-config"].json_class == "SpeculativeConfig"
    nested = schema.json_classes["SpeculativeConfig"]
    assert nested.forbids_unknown
    assert nested.fields["method"]["type"] == {"any": [{"enum": ["mtp", "ngram"]}, "null"]}
    assert nested.fields["hidden"]["init"] is False
    assert schema.registries["envs"] == ("VLLM_A", "VLLM_B")
    assert schema.registries["reasoning_parsers"] == ("qwen3",)


def test_a_registry_at_another_place_in_the_image_does_not_hide_the_rest(site: Path) -> None:
    data = json.loads(run(site, "schema")[1])
    assert "ModuleNotFoundError" in data["errors"]["architectures"]
    assert "architectures" not in data["registries"]


@pytest.mark.parametrize(
    "output", ["", "docker: no such image", "{broken", "[1]", '{"ok": "yes"}', '{"ok": true, "error": 1}']
)
def test_no_answer_is_neither_yes_nor_no(output: str) -> None:
    check = read_check(output)
    assert check.ok is None
    assert "did not answer" in check.error


@pytest.mark.parametrize("output", ["", '{"ok": null, "error": "no vllm"}', '{"flags": []} no output'])
def test_no_schema_is_an_error_with_the_images_own_output(output: str) -> None:
    with pytest.raises(ValueError, match=r"no output|no vllm"):
        read_schema(output)


def test_output_before_the_answer_does_not_disturb_it() -> None:
    assert read_check('WARNING x\n{"ok": true, "error": "", "version": "1"}\n{x\n') == ArgCheck(True, "", "1")
