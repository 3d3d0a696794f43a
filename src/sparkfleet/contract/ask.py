"""One question to a service, and its streamed answer."""

from __future__ import annotations

from dataclasses import dataclass

from sparkfleet.contract.codec import Document


@dataclass(frozen=True)
class AskRequest(Document):
    """A question to a service of the host."""

    NAME = "question to a service"

    service: str
    """"" = the only one."""
    question: str
    max_tokens: int = 1024
    timeout_s: float = 300.0
    """For the whole answer."""


@dataclass(frozen=True)
class AnswerPart(Document):
    """A part of a streamed answer; the last one has the measurements instead of text."""

    NAME = "part of an answer"

    text: str = ""
    reasoning: bool = False
    """Whether the text is reasoning before the answer."""
    ended: bool = False
    model: str = ""
    """The name that was requested; this and the following of the last part alone."""
    first_s: float | None = None
    """Seconds from the request to the first text; None: there was no text."""
    total_s: float = 0.0
    tokens: int = 0
    """Generated tokens, as the engine counts them; 0: it does not say."""

    @property
    def rate(self) -> float | None:
        """Return the tokens a second after the first text; None where they are unknown."""
        if self.first_s is None or self.tokens < 2 or self.total_s <= self.first_s:  # noqa: PLR2004
            return None
        return (self.tokens - 1) / (self.total_s - self.first_s)
