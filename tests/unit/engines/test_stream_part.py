"""A line of a streamed answer: text, reasoning, or the number of tokens; anything else has none of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkfleet import engines
from sparkfleet.engines.host import Request, StreamPart

ENGINES = [engines.on_host(name) for name in engines.host_names()]
every_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)


def line(data: object) -> str:
    return f"data: {json.dumps(data)}"


@every_engine
@pytest.mark.parametrize(
    ("text", "part"),
    [
        (line({"choices": [{"delta": {"content": "204"}}]}), StreamPart("204")),
        (line({"choices": [{"delta": {"reasoning_content": "hm"}}]}), StreamPart("hm", reasoning=True)),
        (
            line({"choices": [{"delta": {"reasoning": "hm", "content": None}}]}),
            StreamPart("hm", reasoning=True),
        ),
        (line({"choices": [{"text": "204"}]}), StreamPart("204")),
        (line({"choices": [], "usage": {"completion_tokens": 7}}), StreamPart(tokens=7)),
        (line({"choices": [{"delta": {"role": "assistant"}}], "usage": None}), StreamPart()),
        ("data: [DONE]", StreamPart()),
        (": keep-alive", StreamPart()),
        ("", StreamPart()),
    ],
)
def test_a_part_is_read(engine: engines.host.HostEngine, text: str, part: StreamPart) -> None:
    assert engine.stream_part(text) == part


KEYS = st.sampled_from(["choices", "delta", "text", "usage", "content", "completion_tokens"])
SHAPES = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)
)


@every_engine
@given(data=SHAPES)
def test_a_line_of_any_shape_is_no_error(engine: engines.host.HostEngine, data: object) -> None:
    assert isinstance(engine.stream_part(line(data)), StreamPart)


@every_engine
def test_a_request_is_streamed_with_its_usage(engine: engines.host.HostEngine) -> None:
    streamed = engine.stream_request(Request("POST", "/v1/completions", {"model": "nano"}))
    assert streamed.data == {"model": "nano", "stream": True, "stream_options": {"include_usage": True}}
