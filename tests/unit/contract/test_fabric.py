"""What a Spark takes as a request to change its links."""

from __future__ import annotations

import pytest

from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.fabric import MTU_TOO_LARGE, PEER_SILENT, FabricEvidence, FabricRequest


@pytest.mark.parametrize("name", ["id", "text", "addresses", "rdma", "drop", "management", "peers"])
def test_a_truncated_request_is_refused_and_not_taken_for_a_removal(name: str) -> None:
    whole = FabricRequest.removal("fabric-ab").to_json()
    assert FabricRequest.from_json(whole).id == "fabric-ab"
    with pytest.raises(ContractError, match=f"{name}: is missing"):
        FabricRequest.from_json({key: value for key, value in whole.items() if key != name})


@pytest.mark.parametrize(("small", "code"), [(True, MTU_TOO_LARGE), (False, PEER_SILENT)])
def test_evidence_of_version_1_has_its_texts_as_diagnostics(small: bool, code: str) -> None:
    reply = {"peer": "spark-02", "link": "fab0", "address": "10.0.0.2", "mtu": 9000, "small": small}
    data = {"version": 1, "cluster": "pair", "at": 1, "links": {}, "rdma": {}}
    (found,) = FabricEvidence.from_json({**data, "peers": [{**reply, "problem": "silent"}]}).peers
    assert found.diagnostic is not None
    assert (found.diagnostic.message, found.diagnostic.code) == ("silent", code)
