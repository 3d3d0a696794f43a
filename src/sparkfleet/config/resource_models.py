"""``prepare:`` of group_data and host files, as pydantic models generated from the kinds of resources.

``None`` means "not declared"; what is declared nowhere is not changed. In mappings a key with ``null``
removes what the fleet's group_data declares.
"""

from __future__ import annotations

import types
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field, create_model

from sparkfleet.config.base import Model
from sparkfleet.resources import registry
from sparkfleet.resources.base import Limits

PATTERN_TEXTS: dict[str, str] = {}
"""Pattern -> what it means, of all limits that became part of a model."""


class _HostSettings(Model):
    """Host state beside what its services need."""

    offline: bool | None = Field(
        None,
        description="true: the Spark reaches neither registry nor hub, and the preflight does not try.",
    )
    docker: Literal["check", "install"] | None = Field(
        None,
        description="check (default): Docker and the NVIDIA container toolkit must be there. install: what "
        "is missing of them comes from the Spark's own package sources. Never removed again.",
    )


@cache
def model_of(spec: type[Any]) -> type[Model]:
    """Return the model of a settings dataclass."""
    hints = get_type_hints(spec, include_extras=True)
    members: dict[str, Any] = {}
    for one in fields(spec):
        default = ... if one.default is MISSING else one.default
        members[one.name] = (annotation(hints[one.name]), Field(default, **one.metadata))
    return create_model(spec.__name__, __base__=Model, __doc__=spec.__doc__, **members)


def annotation(kind: Any) -> Any:
    """Return a type of a setting as pydantic takes it: dataclasses as models, limits as fields."""
    if is_dataclass(kind):
        return model_of(kind)  # type: ignore[arg-type]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return Annotated[(annotation(arguments[0]), *map(_limit, arguments[1:]))]
    if origin in {tuple, dict}:
        return origin[tuple(annotation(one) for one in arguments)]
    if origin in {Union, types.UnionType}:
        return Union[tuple(annotation(one) for one in arguments)]  # noqa: UP007  (types that are computed)
    return kind


def _limit(one: Any) -> Any:
    if not isinstance(one, Limits):
        return one
    if one.pattern and one.text:
        PATTERN_TEXTS[one.pattern] = one.text
    return Field(**one.options)


def _prepare_model() -> type[_HostSettings]:
    members: dict[str, Any] = {
        setting.key: (annotation(setting.type) | None, Field(None, description=setting.description))
        for kind in registry.kinds().values()
        for setting in kind.settings
    }
    return create_model("PrepareSpec", __base__=_HostSettings, __doc__=_HostSettings.__doc__, **members)


if TYPE_CHECKING:
    PrepareSpec = _HostSettings
else:
    PrepareSpec = _prepare_model()


def plain(value: Any, kind: Any) -> Any:
    """Return a validated value of a setting with its dataclasses instead of their models."""
    if isinstance(value, Model):
        spec = _spec(kind)
        return spec(**{name: getattr(value, name) for name in type(value).model_fields})
    if isinstance(value, dict):
        return {name: plain(one, get_args(kind)[1]) for name, one in value.items()}
    return value


def _spec(kind: Any) -> Any:
    return kind if is_dataclass(kind) else next(one for one in get_args(kind) if is_dataclass(one))
