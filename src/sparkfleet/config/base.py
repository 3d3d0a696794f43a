"""What all models of what a user may write share: the base class, and kinds of text that several use."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

HostPath = Annotated[str, Field(pattern=r"^(~|/)[^,:\s]*$")]
"""Absolute or below ``~``; without the characters that docker's mount syntax gives a meaning."""
TokenSource = Annotated[str, Field(pattern=r"^(env:[A-Za-z_]\w*|file:.+|command:.+)$")]
PasswordSource = Annotated[str, Field(pattern=r"^(env:[A-Za-z_]\w*|file:.+|command:.+|ask)$")]


class Model(BaseModel):
    """Base: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)
