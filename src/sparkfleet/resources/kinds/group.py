"""Membership of a user in a group: who may talk to Docker without sudo."""

from __future__ import annotations

import grp
import pwd


def observe(host: ObservedHost, key: str, _: str = "") -> dict[str, str]:
    """Return whether a user is in a group; ``key`` is "GROUP USER"."""
    del host
    name, user = key.split(" ")
    try:
        found, account = grp.getgrnam(name), pwd.getpwnam(user)
    except KeyError as error:
        return {"member": "no", "missing": str(error).strip("\"'")}
    return {"member": "yes" if user in found.gr_mem or account.pw_gid == found.gr_gid else "no"}


# --- Only what is above this line is sent with the probe. ---

from collections.abc import Iterator

from sparkfleet.contract.diagnostic import Diagnostic
from sparkfleet.contract.resources import Applied
from sparkfleet.resources.base import (
    Declaration,
    Fields,
    Host,
    ObservedHost,
    Resource,
    ResourceError,
    ResourceKind,
    Setting,
    Target,
    UserName,
    conflict,
    must,
)


class Group(ResourceKind):
    """A user's membership in a group."""

    name = "group"
    needs_new_login = True
    order = 10
    single_field = True
    settings = (Setting("docker_users", tuple[UserName, ...], "Members of the group docker."),)

    def declare(self, declaration: Declaration) -> Iterator[Resource]:
        """Return a membership for each user."""
        for user, where in declaration.each("docker_users"):
            yield Resource("group", f"docker {user}", (("member", "yes"),), where=where)

    def blocker(self, resource: Resource, live: Fields, *, recorded: bool) -> Diagnostic | None:
        """Return which of user and group does not exist."""
        del recorded
        if "missing" not in live:
            return None
        hint = "correct the name, or create the user on the Spark"
        return conflict(resource, f"{resource.key}: {live['missing']}", "an existing user and group", hint)

    def apply(self, host: Host, target: Target) -> None:
        """Add the user to the group; it takes effect at the next login."""
        if "missing" in target.live:
            raise ResourceError(str(target.live["missing"]), "an existing user and group")
        group, user = target.key.split(" ")
        must(host, ("gpasswd", "--add", user, group))

    def revert(self, host: Host, entry: Applied, _: tuple[str, ...]) -> None:
        """Remove the user from the group."""
        group, user = entry.key.split(" ")
        must(host, ("gpasswd", "--delete", user, group))


KIND = Group()
