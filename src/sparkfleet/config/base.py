"""Base class of the models of YAML files, and shared types of strings."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

HostPath = Annotated[str, Field(pattern=r"^(~|/)[^,:\s]*$")]
"""Absolute or below ``~``, without characters that are special in docker's mount syntax."""
TokenSource = Annotated[str, Field(pattern=r"^(env:[A-Za-z_]\w*|file:.+|command:.+)$")]
PasswordSource = Annotated[str, Field(pattern=r"^(env:[A-Za-z_]\w*|file:.+|command:.+|ask)$")]


class Model(BaseModel):
    """Base: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)
