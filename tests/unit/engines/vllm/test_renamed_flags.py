import re

import pytest

from sparkfleet.engines.vllm import history
from sparkfleet.engines.vllm.renamed_flags import ENVS, FLAGS, KEYS
from sparkfleet.engines.vllm.schema import load

NEW = load("0.33.0")
ADVICE = {**FLAGS, **ENVS, **{".".join(key): text for key, text in KEYS.items()}}


@pytest.mark.parametrize("name", FLAGS)
def test_only_flags_that_are_gone_or_never_were_are_replaced(name: str) -> None:
    spans = history.of_flag(name)
    assert not spans or any(span.after for span in spans)


@pytest.mark.parametrize("name", ENVS)
def test_only_variables_that_are_gone_or_never_were_are_replaced(name: str) -> None:
    spans = history.of_name("envs", name)
    assert not spans or any(span.after for span in spans)


@pytest.mark.parametrize(("config", "key"), KEYS)
def test_only_keys_that_are_gone_are_replaced(config: str, key: str) -> None:
    assert history.of_key(config, key)[-1].after


@pytest.mark.parametrize("name", ADVICE)
def test_what_is_advised_instead_exists_in_the_newest_release(name: str) -> None:
    for flag in re.findall(r"--[a-z][a-z0-9-]+", ADVICE[name]):
        assert flag in NEW.options, ADVICE[name]
