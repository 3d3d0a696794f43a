import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from sparkfleet.contract import codec
from sparkfleet.engines.vllm import history, schema_archive
from sparkfleet.engines.vllm.schema import SchemaDump, from_dump, load, nearest, versions
from sparkfleet.engines.vllm.schema_archive import pack, read, release


def dump(version: str, **flags: dict[str, Any]) -> dict[str, Any]:
    return {
        "vllm_version": version,
        "flags": {f"--{name}": {"kind": "store", **entry} for name, entry in flags.items()},
        "json_classes": {"A": {"__extra__": "forbid", "key": {"type": "int"}}} if version > "0.2" else {},
        "registries": {"envs": {"VLLM_X": 0}},
        "packages": {"torch": "==2"},
    }


def test_every_release_since_the_first_that_runs_on_a_spark_is_bundled() -> None:
    assert versions()[0] == "0.10.1.1"
    assert {"0.12.0", "0.19.0", "0.26.0", "0.27.0", "0.27.1", "0.29.0", "0.31.0", "0.33.0"} <= set(versions())


@pytest.mark.parametrize("version", versions())
def test_every_bundled_release_has_its_flags_and_registries(version: str) -> None:
    known = load(version)
    assert known.version == version
    assert known.flags["--max-model-len"].type in ("int", "human_int", "human_int_or_auto")
    assert known.options["-tp"].name == "--tensor-parallel-size"
    assert known.has("tool_parsers", "mistral")
    assert known.has("envs", "VLLM_LOGGING_LEVEL")
    assert "method" in known.json_classes["SpeculativeConfig"].fields
    assert known.flags["--speculative-config"].json_class == "SpeculativeConfig"
    assert "transformers" in known.packages


def test_a_release_that_is_not_bundled_is_not_made_up() -> None:
    with pytest.raises(KeyError, match="0\\.20\\.1"):
        load("0.20.1")


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.19.0", ("0.19.0", True)),
        ("0.17.1+a03ca76a.nv26.03", ("0.17.1", True)),
        ("0.31.0", ("0.31.0", True)),
        ("0.20.1", ("0.20.0", False)),
        ("0.28.1rc1.dev437", ("0.28.0", False)),
        ("0.33.0rc1", ("0.32.0", False)),
        ("9.0", (versions()[-1], False)),
        ("0.9.2", ("0.10.1.1", False)),
        ("", (versions()[-1], False)),
        ("nightly", (versions()[-1], False)),
    ],
)
def test_the_nearest_release_is_the_newest_at_or_below(version: str, expected: tuple[str, bool]) -> None:
    known, exact = nearest(version)
    assert (known.version, exact) == expected


def test_an_unknown_registry_neither_has_nor_lacks_a_name() -> None:
    known = load("0.33.0")
    assert known.has("tool_parsers", "nano_v9") is False
    assert known.has("moons", "io") is None


def test_a_schema_is_shown_by_its_version_alone() -> None:
    assert repr(load("0.33.0")) == "Schema(version='0.33.0')"


def test_defaults_of_nested_configs_are_empty_objects() -> None:
    assert load("0.33.0").flags["--compilation-config"].default == {}


def test_an_enum_type_is_a_choice() -> None:
    flag = from_dump(codec.read(SchemaDump, dump("1", x={"type": "enum:A,B"}), "dump")).flags["--x"]
    assert (flag.type, flag.choices) == ("str", ("A", "B"))


def test_packing_what_was_read_gives_the_same_bytes() -> None:
    data = read()
    releases = [release(data, version) for version in data["versions"]]
    assert pack(reversed(releases)) == schema_archive.FILE.read_bytes()


def test_the_archive_is_small() -> None:
    assert schema_archive.FILE.stat().st_size < 40_000


def test_an_entry_is_stored_once_for_a_run_of_equal_releases() -> None:
    dumps = [dump("0.1", a={}), dump("0.2", a={}, b={}), dump("0.10", a={"default": 1}), dump("0.3", a={})]
    data = json.loads(gzip.decompress(pack(dumps)))
    assert data["versions"] == ["0.1", "0.2", "0.3", "0.10"]
    assert data["flags"] == {
        "--a": [[0, 2, {"kind": "store"}], [3, 3, {"kind": "store", "default": 1}]],
        "--b": [[1, 1, {"kind": "store"}]],
    }
    assert release(data, "0.1")["json_classes"] == {}
    assert release(data, "0.3")["json_classes"]["A"]["__extra__"] == "forbid"


def test_an_archive_of_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.json.gz"
    file.write_bytes(gzip.compress(b'{"format": 99}'))
    with pytest.raises(ValueError, match="format 99"):
        read(file)


@pytest.mark.parametrize(
    ("spans", "text"),
    [
        (history.of_flag("--port"), "in every release"),
        (history.of_flag("--swap-space"), "up to 0.17.1"),
        (history.of_flag("--moe-backend"), "from 0.17.1"),
        (history.of_flag("--disable-log-requests"), "up to 0.16.0, from 0.33.0"),
        (history.of_flag("-tp"), "in every release"),
        (history.of_flag("--use-gpu-for-pooling-score"), "from 0.17.1 to 0.17.1"),
        (history.of_flag("--speculative-disable-by-batch-size"), "in no release from 0.10.1.1 to 0.33.0"),
        (history.of_name("envs", "VLLM_ATTENTION_BACKEND"), "up to 0.14.1"),
        (history.of_name("tool_parsers", "gemma4"), "from 0.19.0"),
        (history.of_name("moons", "io"), "in no release from 0.10.1.1 to 0.33.0"),
        (history.of_key("SpeculativeConfig", "disable_by_batch_size"), "up to 0.16.0"),
        (history.of_key("Moon", "io"), "in no release from 0.10.1.1 to 0.33.0"),
        (history.of_choice("--kv-cache-dtype", "nvfp4"), "from 0.20.0"),
        (history.of_key_choice("SpeculativeConfig", "method", "dflash"), "from 0.20.0"),
        (history.of_key_choice("CompilationConfig", "mode", "x"), "in no release from 0.10.1.1 to 0.33.0"),
    ],
)
def test_history_says_since_when_and_until_when(spans: tuple[history.Span, ...], text: str) -> None:
    assert history.text(spans) == text


def test_what_came_back_has_two_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    dumps = [dump("0.1", a={}), dump("0.2"), dump("0.3", a={})]
    data = json.loads(gzip.decompress(pack(dumps)))
    monkeypatch.setattr(schema_archive, "read", lambda: data)
    assert history.text(history.of_flag("--a")) == "up to 0.1, from 0.3"
    assert history.of_flag("--a")[0] == history.Span("0.1", "0.1", "0.2")
