import re

import pytest

from sparkfleet.engines.vllm import history, renamed_flags, schema_archive
from sparkfleet.engines.vllm.schema import load, versions

NEW = load(versions()[-1])
REPLACED = renamed_flags.read()
FLAGS, ENVS, KEYS = REPLACED.flags, REPLACED.envs, REPLACED.keys
ADVICE = {
    **FLAGS,
    **ENVS,
    **{f"{name}.{key}": text for name, keys in KEYS.items() for key, text in keys.items()},
}
ARCHIVE = schema_archive.read()


def removed(runs: schema_archive.Runs) -> list[str]:
    """The names that an earlier release had and the newest one lacks."""
    return [name for name, entries in runs.items() if entries[-1][1] < len(versions()) - 1]


@pytest.mark.parametrize("name", FLAGS)
def test_only_flags_that_are_gone_or_never_were_are_replaced(name: str) -> None:
    spans = history.of_flag(name)
    assert not spans or any(span.after for span in spans)


@pytest.mark.parametrize("name", ENVS)
def test_only_variables_that_are_gone_or_never_were_are_replaced(name: str) -> None:
    spans = history.of_name("envs", name)
    assert not spans or any(span.after for span in spans)


@pytest.mark.parametrize(("config", "key"), [(config, key) for config, keys in KEYS.items() for key in keys])
def test_only_keys_that_are_gone_are_replaced(config: str, key: str) -> None:
    assert history.of_key(config, key)[-1].after


@pytest.mark.parametrize("name", ADVICE)
def test_what_is_advised_instead_exists_in_the_newest_release(name: str) -> None:
    for flag in re.findall(r"--[a-z][a-z0-9-]+", ADVICE[name]):
        assert flag in NEW.options, ADVICE[name]
    for variable in re.findall(r"VLLM_\w+", ADVICE[name]):
        assert variable in NEW.registries["envs"], ADVICE[name]


@pytest.mark.parametrize("name", removed(ARCHIVE["flags"]))
def test_of_every_flag_that_a_release_removed_it_is_known_what_to_do(name: str) -> None:
    assert renamed_flags.of_flag(name) or name in NEW.options


@pytest.mark.parametrize("name", removed(ARCHIVE["registries"]["envs"]))
def test_of_every_variable_that_a_release_removed_it_is_known_what_to_do(name: str) -> None:
    assert renamed_flags.of_env(name)


@pytest.mark.parametrize(
    ("config", "key"), [(config, key) for config, runs in ARCHIVE["classes"].items() for key in removed(runs)]
)
def test_of_every_key_that_a_release_removed_it_is_known_what_to_do(config: str, key: str) -> None:
    assert renamed_flags.of_key(config, key)


def test_the_negative_of_a_removed_flag_gets_the_same_advice() -> None:
    assert renamed_flags.of_flag("--no-enable-lora-bias") == FLAGS["--enable-lora-bias"]
    assert renamed_flags.of_flag("--no-such-flag") == ""
