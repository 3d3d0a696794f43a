"""A gated model: no token, a wrong one, no licence. Three refusals, three pages to go to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkfleet.contract import hub_access
from sparkfleet.contract.hub_access import Access
from sparkfleet_lab.standins.hub import Hub

COMMIT = "1" * 40
REPO = "org/gated"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with a gated and an open model, and two accounts; one has accepted the licence."""
    for repo, gated in ((REPO, "manual"), ("org/open", False)):
        (tmp_path / repo / COMMIT).mkdir(parents=True)
        (tmp_path / repo / COMMIT / "config.json").write_text("{}")
        (tmp_path / repo / "meta.json").write_text(json.dumps({"refs": {"main": COMMIT}, "gated": gated}))
    accounts = {"hf_yes": {"name": "a", "accepted": [REPO]}, "hf_no": {"name": "b", "accepted": []}}
    (tmp_path / "tokens.json").write_text(json.dumps(accounts))
    server = Hub(("127.0.0.1", 0), tmp_path)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


RESPONSES = [
    (REPO, "", Access.NO_TOKEN),
    (REPO, "hf_wrong", Access.WRONG_TOKEN),
    (REPO, "hf_no", Access.NO_LICENCE),
    (REPO, "hf_yes", Access.OPEN),
    ("org/open", "", Access.OPEN),
    ("org/open", "hf_wrong", Access.WRONG_TOKEN),
    ("org/none", "", Access.UNKNOWN),
    ("org/none", "hf_yes", Access.UNKNOWN),
]


@pytest.mark.parametrize("repo, token, expected", RESPONSES, ids=lambda value: getattr(value, "value", value))
def test_the_hubs_responses_are_distinguished_without_fetching_a_file(
    hub: Hub, repo: str, token: str, expected: Access
) -> None:
    assert hub_access.ask(hub.endpoint, repo, COMMIT, "config.json", token) is expected
    assert hub.counters.bytes == 0


def test_three_refusals_have_three_messages_each_with_the_page_to_go_to(hub: Hub) -> None:
    ask = hub_access.ask
    refusals = [hub_access.refusal(ask(hub.endpoint, REPO, COMMIT, "config.json", token), REPO, hub.endpoint)
            for token in ("", "hf_wrong", "hf_no")]  # fmt: skip
    assert all(refusals)
    founds, remedies = zip(*[(one.message, one.hint) for one in refusals if one], strict=True)
    assert len(set(founds)) == len(set(remedies)) == 3
    assert f"{hub.endpoint}/{REPO}" in remedies[0]
    assert f"{hub.endpoint}/settings/tokens" in remedies[0]
    assert f"{hub.endpoint}/settings/tokens" in remedies[1]
    assert f"{hub.endpoint}/{REPO}" in remedies[2]
    assert "hf_" not in "".join(founds)  # the token is in no message


def test_a_token_that_may_not_read_gated_models_is_sent_to_its_settings() -> None:
    message = "Please enable access to public gated repositories in your fine-grained token settings"
    found = hub_access.judge(403, {"X-Error-Message": message}, token=True, token_known=True)
    assert found is Access.NARROW_TOKEN
    reason = hub_access.refusal(found, REPO, "")
    assert reason
    assert "https://huggingface.co/settings/tokens" in reason.hint


def test_a_hub_that_is_not_there_is_no_refusal() -> None:
    assert hub_access.ask("http://127.0.0.1:1", REPO, COMMIT, "config.json", "") is Access.UNKNOWN
    assert hub_access.refusal(Access.UNKNOWN, REPO, "") is None


def test_a_redirect_to_the_file_means_that_it_is_given() -> None:
    assert hub_access.judge(302, {}, token=False, token_known=True) is Access.OPEN
