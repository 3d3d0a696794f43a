"""Edits of a host file as text: every line that is not part of the edit stays byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sparkfleet.config import yaml_text
from sparkfleet.config.yaml_file import parse
from sparkfleet.config.yaml_text import OneLine
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError

_KEY = "serve"


def add_service(text: str, file: str, service: Mapping[str, Any]) -> str:
    """Return the text of a host file with one more service at the end of ``serve:``.

    ``file`` names the host file in errors. Raise ``SparkfleetError`` for invalid YAML, and for a layout to
    which the service cannot be added without other changes.
    """
    document = parse(text.encode(), file)
    whole = text if text.endswith("\n") else f"{text}\n"
    edited = _edited(whole, dict(service)) if isinstance(document.data, dict) else None
    expected = [*_services(document.data), dict(service)]
    if edited is None or _services(parse(edited.encode(), file).data) != expected:
        raise SparkfleetError(
            Diagnostic(
                document.where((_KEY,)),
                "the service cannot be added without changing other lines",
                "`serve:` as a list, one service an item, each on lines of its own",
                f"add it with an editor: {_one_line(dict(service))}",
                code="edit-not-possible",
            )
        )
    return edited


def _services(data: Any) -> list[Any]:
    serve = data.get(_KEY) if isinstance(data, dict) else None
    return serve if isinstance(serve, list) else [] if serve is None else [serve]


def _edited(text: str, service: dict[str, Any]) -> str | None:
    """Return the new text, None for a layout that is not supported."""
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    if root.flow_style:
        return None
    lines = text.splitlines(keepends=True)
    found = next(((key, value) for key, value in root.value if key.value == _KEY), None)
    if found is None:
        return "".join([*lines, f"{_KEY}:\n", *_item(service, 2)])
    key, value = found
    if isinstance(value, SequenceNode) and value.value:
        if value.flow_style:
            end = value.value[-1].end_mark.index
            return f"{text[:end]}, {_one_line(service)}{text[end:]}"
        last = _last_line(value, lines)
        return "".join([*lines[: last + 1], *_item(service, value.start_mark.column), *lines[last + 1 :]])
    if isinstance(value, MappingNode) and value.value and not value.flow_style:
        first, last, column = value.start_mark.line, _last_line(value, lines), value.start_mark.column
        own = [line if line.isspace() else f"  {line}" for line in lines[first : last + 1]]
        own[0] = f"{' ' * column}- {own[0].lstrip()}"
        return "".join([*lines[:first], *own, *_item(service, column), *lines[last + 1 :]])
    return _with_list(text, key, value, service)


def _with_list(text: str, key: Node, value: Node, service: dict[str, Any]) -> str:
    """Replace an empty value, or one on the line of its key, by a list."""
    start, end = value.start_mark.index, value.end_mark.index
    content = text[start:end]
    if not content:  # `serve:` alone; its value begins at the next key
        start = end = key.end_mark.index + 1
    is_empty = not getattr(value, "value", "") or (
        isinstance(value, ScalarNode) and value.tag.endswith("null")
    )
    line_end = text.index("\n", end)
    head = text[:start].rstrip(" ") + (f"  {rest}" if (rest := text[end:line_end].strip()) else "")
    items = ["" if is_empty else f"  - {content}\n", *_item(service, 2)]
    return f"{head}\n{''.join(items)}{text[line_end + 1 :]}"


def _last_line(node: Node, lines: list[str]) -> int:
    """Return the number of the last line with content of a block, without what follows it."""
    mark = node.end_mark
    number = mark.line - (mark.column == 0) if mark.line < len(lines) else len(lines) - 1
    while not lines[number].strip() or lines[number].lstrip().startswith("#"):
        number -= 1
    return number


def _item(service: dict[str, Any], column: int) -> list[str]:
    _, *lines = yaml_text.dump({_KEY: [service]}).splitlines(keepends=True)
    return [f"{' ' * column}{line[2:]}" for line in lines]


def _one_line(service: dict[str, Any]) -> str:
    return yaml_text.dump({_KEY: OneLine(service)}).strip().removeprefix(f"{_KEY}: ")
