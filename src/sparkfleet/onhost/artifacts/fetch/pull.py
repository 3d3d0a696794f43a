"""Pulls an image by its digest from its registry, with progress."""

from __future__ import annotations

import time

from sparkfleet.contract import registry_credentials
from sparkfleet.contract.registry_credentials import Credential, CredentialError
from sparkfleet.contract.stage import ROOT, LoginUser
from sparkfleet.onhost.artifacts import pace
from sparkfleet.onhost.artifacts.errors import StageError
from sparkfleet.onhost.state.journal import Journal
from sparkfleet.runtimes import onhost
from sparkfleet.runtimes.base import RuntimeRefusedError, RuntimeUnavailableError

PROGRESS_EVERY_S = 5.0
"""Seconds between two progress lines."""


def pull(reference: str, user: LoginUser, journal: Journal) -> int:
    """Pull ``repository@digest`` unless it is present; return the bytes of the layers that were transferred.

    Credentials are those of the login user, then root's. If they cannot be read, the pull is anonymous, and a
    refusal names both reasons. Raise StageError when the image is not present afterwards.
    """
    if onhost.images().find_image(reference):
        return 0
    registry = reference.partition("/")[0]
    try:
        return pull_as(reference, reference, find_credential(registry, user), journal)
    except CredentialError as error:
        journal.log("note", f"{error}; pulling without credentials")
        try:
            return pull_as(reference, reference, None, journal)
        except StageError as refused:
            if refused.diagnostic.code == pace.CODE:
                raise
            pulled, read = refused.diagnostic, error.diagnostic
            message = f"{pulled.message}; credentials: {read.location}: {read.message}"
            raise StageError(pulled.location, message, read.hint, code=read.code) from refused


def find_credential(registry: str, user: LoginUser) -> Credential | None:
    """Return the credential for a registry from the login user's or root's config. Raise CredentialError."""
    owners = (user, ROOT)
    files = [registry_credentials.user_file(owner.home, owner.uid, owner.gid) for owner in owners]
    return registry_credentials.find(registry, files)


def pull_as(reference: str, name: str, credential: Credential | None, journal: Journal) -> int:
    """Pull an image under another name with the same digest. Raise StageError."""
    images = onhost.images()
    subject = reference.partition("@")[0]
    registry = subject.partition("/")[0]
    judged = pace.Pace(registry, subject)
    journal.log("phase", f"{subject}: started", phase="pull")
    last = time.monotonic()

    def on_progress(have: int, total: int) -> None:
        nonlocal last
        judged.check(have)
        if time.monotonic() - last > PROGRESS_EVERY_S:
            last = time.monotonic()
            text = f"{subject} {have >> 20} of {total >> 20} MiB"
            journal.log("phase", text, phase="pull", have=have, total=total)

    error = "no reason given"
    try:
        count = images.pull(name, credential, on_progress)
    except (RuntimeRefusedError, RuntimeUnavailableError) as refused:
        error = str(refused)
    except pace.TooSlowError as slow:
        raise pace.too_slow(f"image {subject}", slow, registry) from None
    else:
        if images.find_image(reference):
            journal.log("phase", f"{subject} is complete", phase="pull")
            return count
    message, hint = f"could not be pulled: {error}", images.pull_remedy(error, registry)
    raise StageError(f"image {subject}", message, hint)
