"""Users of the hub, and their access."""

from __future__ import annotations

from typing import Any

from .content import Content, HubError

User = dict[str, Any]
"""``name``, and ``accepted``: repositories whose licence that user accepted."""


def user_of(header: str, tokens: dict[str, User]) -> User | None:
    """Return the user of an Authorization header; None without a header. An unknown token is refused
    everywhere.
    """
    if not header:
        return None
    user = tokens.get(header.removeprefix("Bearer ").strip())
    if user is None:
        raise HubError(401, "Invalid credentials in Authorization header")
    return user


def commit(content: Content, user: User | None, repo: str, revision: str) -> str:
    """Return the commit of a branch or commit, if the hub shows it to this user."""
    try:
        return content.commit(repo, revision)
    except HubError as error:
        if (
            error.code == "RepoNotFound" and user is None
        ):  # the hub does not tell anonymous users which repositories exist
            raise HubError(401, "Invalid username or password.", "RepoNotFound") from None
        raise


def check_licence(content: Content, user: User | None, repo: str) -> None:
    """Refuse files of a gated repository to users who have not accepted its licence."""
    if not content.meta(repo).get("gated"):
        return
    if user is None:
        raise HubError(
            401,
            f"Access to model {repo} is restricted. You must have access to it and be authenticated "
            "to access it. Please log in.",
            "GatedRepo",
        )
    if repo not in user.get("accepted", ()):
        raise HubError(
            403,
            f"Access to model {repo} is restricted and you are not in the authorized list. "
            f"Visit https://huggingface.co/{repo} to ask for access.",
            "GatedRepo",
        )
