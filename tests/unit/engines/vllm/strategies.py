"""Flags with values that suit them, for property tests."""

from typing import Any

from hypothesis import strategies as st

from sparkfleet.engines.vllm.schema import Flag, Schema

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
WORD = TEXT.filter(lambda text: text not in ("None", "--") and text.strip() == text)
JSON_OBJECT = st.dictionaries(
    st.text("abcdefgh_", min_size=1, max_size=6),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-9, 9)
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXT,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
        ),
        max_leaves=5,
    ),
    max_size=4,
)


def values_of(flag: Flag) -> st.SearchStrategy[Any]:
    """Values as a user writes them in YAML for the flag, that vLLM's parser reads back as they are."""
    if not flag.takes_value:
        return st.booleans() if flag.kind == "bool" else st.just(True)
    one = {
        "int": st.integers(-5, 10**6),
        "float": st.floats(0, 10, allow_nan=False).map(lambda number: round(number, 4)),
        "bool": st.booleans(),
        "human_int": st.integers(1, 10**6),
        "human_int_or_auto": st.integers(1, 10**6),
        "json": JSON_OBJECT,
        "config": JSON_OBJECT,
        "json_or_str": JSON_OBJECT | WORD.filter(lambda text: "{" not in text),
        "name": st.sampled_from(["marlin", "auto"]),
    }.get(flag.type, WORD)
    choices = [choice for choice in flag.choices or () if choice not in (None, "None")]
    if choices:
        one = st.sampled_from(choices)
    if flag.takes_several:
        return st.lists(one.filter(lambda value: not str(value).startswith("-")), min_size=1, max_size=3)
    return st.lists(one, min_size=1, max_size=2) if flag.kind == "append" else one


def flags_of(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    """Some flags of a release with values, in any order."""
    usable = [flag for flag in schema.flags.values() if flag.kind != "help" and flag.name != "--model"]
    one = st.sampled_from(usable).flatmap(lambda flag: st.tuples(st.just(flag.name), values_of(flag)))
    return st.lists(one, max_size=6, unique_by=lambda pair: pair[0]).map(dict)
