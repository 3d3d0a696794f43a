"""What a Spark takes as a request to change its links."""

from __future__ import annotations

import pytest

from sparkfleet.contract.codec import ContractError
from sparkfleet.contract.fabric import FabricRequest


@pytest.mark.parametrize("name", ["id", "text", "addresses", "rdma", "drop", "management", "peers"])
def test_a_truncated_request_is_refused_and_not_taken_for_a_removal(name: str) -> None:
    whole = FabricRequest.removal("fabric-ab").to_json()
    assert FabricRequest.from_json(whole).id == "fabric-ab"
    with pytest.raises(ContractError, match=f"{name}: is missing"):
        FabricRequest.from_json({key: value for key, value in whole.items() if key != name})
