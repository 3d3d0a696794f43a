"""Pinning images against a registry that answers, refuses, lies, hangs."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sparkfleet import engines
from sparkfleet.config import image
from sparkfleet.contract.registry_credentials import Credential, CredentialError
from sparkfleet.desired_state import ImageRef, Mirror
from sparkfleet.lock import images
from sparkfleet.lock import registry as registry_module
from sparkfleet.lock.errors import RegistryError
from sparkfleet.lock.registry import Registry
from tests.unit.lock.fake_registry import CONFIG, MANIFEST, FakeRegistry, serving

NAME = "nvidia/vllm"
IMAGE = image.parse("nvcr.io/nvidia/vllm:26.04-py3")


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with serving() as registry:
        yield registry


def reader(fake: FakeRegistry, credential: Credential | None = None) -> Registry:
    return Registry({"nvcr.io": Mirror("nvcr.io", fake.url)}, lambda _: credential)


def resolve(fake: FakeRegistry, credential: Credential | None = None, requested: ImageRef = IMAGE) -> Any:
    connection = reader(fake, credential)
    try:
        return images.resolve(requested, connection, engines.get("vllm"))
    finally:
        connection.close()


def refusal(
    fake: FakeRegistry, credential: Credential | None = None, requested: ImageRef = IMAGE
) -> RegistryError:
    with pytest.raises(RegistryError) as error:
        resolve(fake, credential, requested)
    assert error.value.diagnostic.hint
    return error.value


def test_a_tag_becomes_the_digest_of_its_index_with_the_arm64_manifest_below(fake: FakeRegistry) -> None:
    index, manifests = fake.image(NAME, "26.04-py3")
    locked = resolve(fake)
    assert locked.image.digest == index
    assert locked.arm64 == manifests["linux/arm64"]
    assert locked.image.entrypoint == ("/opt/nvidia/nvidia_entrypoint.sh",)
    assert locked.image.size == 1123
    assert locked.created == "2026-05-01T10:11:12Z"


def test_variables_are_kept_but_for_those_that_no_file_could_hold(fake: FakeRegistry) -> None:
    fake.image(NAME, "26.04-py3")
    assert dict(resolve(fake).env) == {"PATH": "/usr/bin", "VLLM_VERSION": "0.19.0"}


def test_an_image_by_digest_is_read_by_digest(fake: FakeRegistry) -> None:
    index, _ = fake.image(NAME, "26.04-py3")
    fake.image(NAME, "26.04-py3", version="0.20.0")  # the tag moves
    locked = resolve(fake, requested=image.parse(f"nvcr.io/{NAME}@{index}"))
    assert locked.image.digest == index
    assert locked.image.engine_version == "0.19.0"


@pytest.mark.parametrize(
    ("challenge", "version"),
    [
        ("0.19.0+f3a1.nv26.04", "0.19.0"),
        ("v0.20.1", "0.20.1"),
        ("0.28.1rc1.dev437", "0.28.1rc1"),
        ("", "0.19.0"),
    ],
)
def test_the_vllm_version_is_what_the_image_says_else_what_its_name_tells(
    fake: FakeRegistry, challenge: str, version: str
) -> None:
    fake.image(NAME, "26.04-py3", version=challenge)
    assert resolve(fake).image.engine_version == version


def test_a_single_manifest_for_arm64_is_its_own_index(fake: FakeRegistry) -> None:
    _, manifests = fake.image(NAME, "other")
    body = fake.blobs[f"{NAME}/manifests/{manifests['linux/arm64']}"]
    digest = fake.put(NAME, "26.04-py3", json.loads(body))
    locked = resolve(fake)
    assert locked.image.digest == locked.arm64 == digest


def test_a_single_manifest_for_another_processor_is_refused(fake: FakeRegistry) -> None:
    _, manifests = fake.image(NAME, "other")
    fake.put(NAME, "26.04-py3", json.loads(fake.blobs[f"{NAME}/manifests/{manifests['linux/amd64']}"]))
    assert "is not available for linux/arm64" in refusal(fake).diagnostic.message
    assert "it has linux/amd64" in refusal(fake).diagnostic.message


def test_an_index_without_arm64_is_refused_and_says_what_it_has(fake: FakeRegistry) -> None:
    fake.image(NAME, "26.04-py3", systems=("linux/amd64", "linux/s390x"))
    assert refusal(fake).diagnostic.message.endswith("it has linux/amd64, linux/s390x")


def test_a_tag_that_is_not_there_says_so(fake: FakeRegistry) -> None:
    assert refusal(fake).diagnostic.message == "nvcr.io has no nvidia/vllm 26.04-py3"


@pytest.mark.parametrize(
    ("status", "headers", "found", "remedy"),
    [
        (403, {}, "denies access to nvidia/vllm (HTTP 403)", "docker login nvcr.io` (user $oauthtoken"),
        (429, {"Retry-After": "17"}, "rate limit of", "try again in 17 s"),
        (429, {}, "rate limit of", "try again later"),
        (500, {}, "HTTP 500", "try again later"),
    ],
)
def test_a_refusal_says_what_to_do(
    fake: FakeRegistry, status: int, headers: Any, found: str, remedy: str
) -> None:
    fake.status, fake.headers = status, headers
    error = refusal(fake)
    assert found in error.diagnostic.message
    assert remedy in error.diagnostic.hint


def test_an_anonymous_token_is_fetched_when_the_registry_asks_for_one(fake: FakeRegistry) -> None:
    fake.auth = "bearer"
    fake.image(NAME, "26.04-py3")
    assert resolve(fake).image.digest
    assert ("/token", "") in fake.seen


@pytest.mark.parametrize(
    ("status", "found"),
    [(429, "rate limit of"), (500, "returned no token (HTTP 500"), (200, "returned no token")],
)
def test_a_token_that_cannot_be_had_says_so(fake: FakeRegistry, status: int, found: str) -> None:
    fake.auth, fake.token_status = "bearer", status
    fake.image(NAME, "26.04-py3")
    assert found in refusal(fake).diagnostic.message


def test_one_token_serves_all_reads_of_an_image(fake: FakeRegistry) -> None:
    fake.auth = "bearer"
    fake.image(NAME, "26.04-py3")
    resolve(fake)
    assert [path for path, _ in fake.seen].count("/token") == 1


def test_a_private_image_is_read_with_the_login(fake: FakeRegistry) -> None:
    fake.auth, fake.anonymous, fake.users = "bearer", False, {"$oauthtoken": "key"}
    fake.image(NAME, "26.04-py3")
    assert "HTTP 401" in refusal(fake).diagnostic.message
    assert "HTTP 401" in refusal(fake, Credential("$oauthtoken", "wrong")).diagnostic.message
    assert resolve(fake, Credential("$oauthtoken", "key")).image.digest


def test_an_identity_token_is_exchanged(fake: FakeRegistry) -> None:
    fake.auth, fake.anonymous, fake.refresh_token = "bearer", False, "identity"
    fake.image(NAME, "26.04-py3")
    assert resolve(fake, Credential("<token>", "identity")).image.digest


def test_a_registry_with_passwords_of_its_own_is_read_with_the_login(fake: FakeRegistry) -> None:
    fake.auth, fake.users = "basic", {"me": "pass"}
    fake.image(NAME, "26.04-py3")
    assert "HTTP 401" in refusal(fake).diagnostic.message
    assert resolve(fake, Credential("me", "pass")).image.digest


def test_a_mirror_is_not_given_the_password_of_the_registry_it_stands_for(fake: FakeRegistry) -> None:
    fake.auth, fake.users = "basic", {"me": "pass"}
    fake.image(NAME, "26.04-py3")
    requested = []

    def credential(host: str) -> None:
        requested.append(host)

    connection = Registry({"nvcr.io": Mirror("nvcr.io", fake.url)}, credential)
    with pytest.raises(RegistryError):
        images.resolve(IMAGE, connection, engines.get("vllm"))
    connection.close()
    assert requested == [fake.url.removeprefix("http://")]


@pytest.mark.parametrize("kind", ["manifests", "blobs"])
def test_content_that_is_not_what_its_digest_promises_is_refused(fake: FakeRegistry, kind: str) -> None:
    fake.image(NAME, "26.04-py3")
    fake.corrupt = kind
    assert "sent sha256:" in refusal(fake).diagnostic.message


def test_what_is_no_json_is_refused(fake: FakeRegistry) -> None:
    fake.blobs[f"{NAME}/manifests/26.04-py3"] = b"<html>"
    fake.types[f"{NAME}/manifests/26.04-py3"] = MANIFEST
    assert "Invalid JSON" in refusal(fake).diagnostic.message


def test_an_unknown_kind_of_manifest_is_refused(fake: FakeRegistry) -> None:
    fake.put(NAME, "26.04-py3", {"schemaVersion": 1, "fsLayers": []})
    assert "unsupported type of manifest" in refusal(fake).diagnostic.message


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        ({"manifests": {}}, "manifests: "),
        ({"manifests": [{"platform": {}}]}, "manifests.0.digest: "),
        ({"config": {"digest": 3}}, "config.digest: "),
    ],
)
def test_a_manifest_of_another_shape_is_refused_with_image_and_field(
    fake: FakeRegistry, manifest: dict[str, Any], field: str
) -> None:
    digest = fake.put(NAME, "26.04-py3", manifest)
    assert f"nvcr.io/{NAME}@{digest}: {field}" in refusal(fake).diagnostic.message


def test_a_registry_that_does_not_answer_is_given_up(
    fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "TIMEOUT", httpx.Timeout(0.2))
    fake.hang = threading.Event()
    assert refusal(fake).diagnostic.message == "nvcr.io did not respond in time"


def test_a_registry_that_is_not_there_says_so() -> None:
    connection = Registry({"nvcr.io": Mirror("nvcr.io", "http://127.0.0.1:1")}, lambda _: None)
    with pytest.raises(RegistryError, match=r"nvcr\.io cannot be reached"):
        images.resolve(IMAGE, connection, engines.get("vllm"))
    connection.close()


def test_a_ca_file_that_is_not_there_says_so(fake: FakeRegistry) -> None:
    connection = Registry({"nvcr.io": Mirror("nvcr.io", fake.url, "/no/ca.pem")}, lambda _: None)
    with pytest.raises(RegistryError, match=r"the ca_file of nvcr\.io cannot be read"):
        images.resolve(IMAGE, connection, engines.get("vllm"))


def test_a_challenge_that_wants_the_password_in_the_clear_is_refused() -> None:
    connection = Registry({}, lambda _: Credential("me", "pass"))
    client = httpx.Client(base_url="https://registry.example")
    with pytest.raises(RegistryError, match="unencrypted"):
        connection._authorize(client, "registry.example", "a/b", 'Bearer realm="http://elsewhere/token"')
    client.close()


def test_unreadable_credentials_are_named_when_the_registry_refuses_and_no_problem_otherwise(
    fake: FakeRegistry,
) -> None:
    def credential(_: str) -> None:
        raise CredentialError(
            "config.json", "docker-credential-x is not on PATH", "install docker-credential-x"
        )

    fake.image(NAME, "26.04-py3")
    connection = Registry({"nvcr.io": Mirror("nvcr.io", fake.url)}, credential)
    assert images.resolve(IMAGE, connection, engines.get("vllm")).image.digest
    fake.auth, fake.users = "basic", {"me": "pass"}
    with pytest.raises(
        RegistryError, match=r"credentials: config\.json: docker-credential-x is not on PATH"
    ) as raised:
        images.resolve(IMAGE, connection, engines.get("vllm"))
    connection.close()
    assert raised.value.diagnostic.hint == "install docker-credential-x"


def test_blob_and_manifest_types_are_distinguished(fake: FakeRegistry) -> None:
    digest = fake.put(NAME, "", {"a": 1}, CONFIG)
    connection = reader(fake)
    assert json.loads(connection.blob(f"nvcr.io/{NAME}", digest).body) == {"a": 1}
    connection.close()


def test_a_certificate_outside_of_its_time_names_the_clock_of_this_machine() -> None:
    message = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate is not yet valid"
    with pytest.raises(RegistryError) as failed, registry_module._connection_errors("nvcr.io"):
        raise httpx.ConnectError(message)
    assert failed.value.diagnostic.hint == "check the clock of this machine: date"
