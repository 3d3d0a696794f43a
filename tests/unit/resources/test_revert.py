"""What is reverted once it is no longer declared: what is still as a run applied it, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from sparkfleet.contract.resources import Applied
from sparkfleet.resources import registry


def entry(kind: str, applied: dict[str, str], **before: str) -> Applied:
    return Applied(kind, "x", "", before, applied)


FILE = {"sha256": "new", "mode": "0644"}
NOW = {"now": "10", "at boot": "10"}


@pytest.mark.parametrize(
    ("recorded", "live", "reverted"),
    [
        (entry("file", FILE, **{"is": "absent"}), {"sha256": "new"}, ("sha256", "mode")),
        (entry("file", FILE, **{"is": "file", "sha256": "old"}), {"sha256": "new"}, ("sha256", "mode")),
        (entry("file", FILE, **{"is": "absent"}), {"sha256": "by hand"}, ()),
        (entry("file", FILE, **{"is": "absent"}), {"is": "absent"}, ()),
        (entry("gpu", {"clocks": "1,2"}, **{"is": "absent"}), {"clocks": "1,2"}, ("clocks",)),
        (entry("gpu", {"clocks": "1,2"}, **{"is": "absent"}), {"is": "absent"}, ()),
        (entry("hub_token", {"secret": "as declared", "hash": "h"}), {"hash": "h"}, ("secret", "hash")),
        (entry("hub_token", {"secret": "as declared", "hash": "h"}), {"hash": "other"}, ()),
        (entry("package", {"is": "installed"}, **{"is": "absent"}), {"is": "absent"}, ()),
        (entry("sysctl", NOW, **{"now": "60", "at boot": ""}), NOW, ("now", "at boot")),
        (entry("sysctl", NOW, **{"now": "60", "at boot": ""}), {"now": "5", "at boot": "10"}, ("at boot",)),
        (entry("sysctl", NOW, **{"now": "10", "at boot": ""}), NOW, ("at boot",)),
        (entry("directory", {"mode": "0755"}, **{"is": "absent"}), {"mode": "0755", "empty": "no"}, ()),
        (entry("directory", {"mode": "0755"}, **{"is": "absent"}), {"mode": "1", "empty": "yes"}, ("mode",)),
        (entry("service", {"now": "active"}, now="inactive"), {"now": "active"}, ("now",)),
        (entry("service", {"now": "inactive"}, now="active"), {"now": "inactive", "unit": "missing"}, ()),
    ],
)
def test_only_what_is_still_ours(recorded: Applied, live: dict[str, Any], reverted: tuple[str, ...]) -> None:
    assert registry.kind(recorded.kind).reverted_fields(recorded, live) == reverted
