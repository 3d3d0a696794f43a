"""Client of a container registry: reads manifests, configurations and blobs.

Content is verified against its digest. Anonymous where the registry allows it, else with the credentials of
``docker login``, by the registry's Bearer or Basic challenge.
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel

from sparkfleet.contract import registry_credentials
from sparkfleet.contract.registry_credentials import Credential, CredentialError
from sparkfleet.desired_state import Mirror
from sparkfleet.lock import documents
from sparkfleet.lock.documents import TokenResponse
from sparkfleet.lock.errors import RegistryError

ACCEPT = (
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)
MAX_BYTES = 16 << 20
TIMEOUT = httpx.Timeout(30, connect=10)

NOT_AN_IMAGE = "check that the name is that of a container image"
M = TypeVar("M", bound=BaseModel)

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 401, 403, 404, 429


@dataclass(frozen=True)
class Content:
    """A manifest or configuration as sent, and its digest."""

    repository: str
    digest: str
    body: bytes

    def parse(self, model: type[M]) -> M:
        """Return the content as a document; raise ``RegistryError`` for another shape."""
        try:
            return documents.parse(model, self.body, f"{self.repository}@{self.digest}")
        except documents.DocumentError as error:
            raise RegistryError(str(error), NOT_AN_IMAGE) from None


@dataclass
class Registry:
    """Reads from any registry, or from its declared mirror. Not shared between threads."""

    mirrors: Mapping[str, Mirror] = field(default_factory=dict)
    credential: Callable[[str], Credential | None] = registry_credentials.find
    _clients: dict[str, httpx.Client] = field(default_factory=dict)
    _authorization: dict[tuple[str, str], str] = field(default_factory=dict)
    _credential_errors: dict[str, CredentialError] = field(default_factory=dict)
    """Registry -> why its credentials cannot be read; it is used without them."""

    def manifest(self, repository: str, reference: str) -> Content:
        """Return the manifest or index of ``registry/path`` by tag or digest. Raise ``RegistryError``."""
        return self._get(repository, f"manifests/{reference}", reference if ":" in reference else "")

    def blob(self, repository: str, digest: str) -> Content:
        """Return a small blob by digest. Raise ``RegistryError``."""
        return self._get(repository, f"blobs/{digest}", digest)

    @contextmanager
    def stream(self, repository: str, digest: str, offset: int = 0) -> Iterator[httpx.Response]:
        """Open a blob at an offset (status 206; 200: from the beginning). Raise ``RegistryError``.

        The caller verifies the digest.
        """
        registry, _, path = repository.partition("/")
        what = f"blobs/{digest}"
        with _connection_errors(registry):
            headers = {"range": f"bytes={offset}-"} if offset else {}
            auth = self._auth(registry, path)
            url = f"/v2/{path}/{what}"
            with self._client(registry).stream("GET", url, headers=headers, auth=auth) as response:
                self._raise_for_status(response, registry, path, what)
                yield response

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()

    def _get(self, repository: str, what: str, digest: str) -> Content:
        registry, _, path = repository.partition("/")
        with _connection_errors(registry):
            response, body = self._request(registry, path, what)
        self._raise_for_status(response, registry, path, what)
        actual = f"sha256:{hashlib.sha256(body).hexdigest()}"
        expected = digest or response.headers.get("docker-content-digest", actual)
        if actual != expected:
            raise RegistryError(
                f"{registry} sent {actual[:19]}... instead of {expected[:19]}...",
                "try again; if it happens again, the registry or a proxy in between is faulty",
            )
        return Content(repository, actual, body)

    def _request(self, registry: str, path: str, what: str) -> tuple[httpx.Response, bytes]:
        auth, headers = self._auth(registry, path), {"accept": ACCEPT}
        url = f"/v2/{path}/{what}"
        with self._client(registry).stream("GET", url, headers=headers, auth=auth) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    message = f"{registry} sent a manifest of more than {MAX_BYTES >> 20} MiB"
                    raise RegistryError(message, "check the image name")
        return response, bytes(body)

    def _auth(self, registry: str, path: str) -> _ChallengeAuth:
        client = self._client(registry)
        return _ChallengeAuth(
            self._authorization,
            (registry, path),
            lambda challenge: self._authorize(client, registry, path, challenge),
        )

    def _client(self, registry: str) -> httpx.Client:
        if registry not in self._clients:
            mirror = self.mirrors.get(registry)
            host = "registry-1.docker.io" if registry == "docker.io" else registry
            scheme = "http" if re.match(r"(localhost|127\.0\.0\.1)(:|$)", host) else "https"
            base = mirror.url.rstrip("/") if mirror else f"{scheme}://{host}"
            if mirror and mirror.ca_file:
                try:
                    context = ssl.create_default_context(cafile=mirror.ca_file)
                except OSError as error:
                    message = f"the ca_file of {registry} cannot be read: {error.strerror or error}"
                    raise RegistryError(message, "correct 'registries' in group_data") from None
            else:
                context = ssl.create_default_context()
            # Redirects lead to blob storage; httpx drops the Authorization when the host changes.
            self._clients[registry] = httpx.Client(
                base_url=base, verify=context, timeout=TIMEOUT, follow_redirects=True
            )
        return self._clients[registry]

    def _authorize(self, client: httpx.Client, registry: str, path: str, challenge: str) -> str:
        """Return the Authorization header for a challenge; "" if there is none."""
        # A mirror never gets the password of the registry that it mirrors.
        mirror = self.mirrors.get(registry)
        try:
            credential = self.credential(urlsplit(mirror.url).netloc if mirror else registry)
        except CredentialError as error:
            self._credential_errors[registry] = error
            credential = None
        kind, _, rest = challenge.partition(" ")
        parts = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if kind.lower() == "basic" and credential:
            pair = f"{credential.user}:{credential.password}".encode()
            return f"Basic {base64.b64encode(pair).decode()}"
        if kind.lower() != "bearer" or "realm" not in parts:
            return ""
        if urlsplit(parts["realm"]).scheme != "https" and client.base_url.scheme == "https":
            message = f"{registry} requests the password over an unencrypted connection: {parts['realm']}"
            raise RegistryError(message, "report this to the operator of the registry")
        params = {"scope": parts.get("scope") or f"repository:{path}:pull"}
        if "service" in parts:
            params["service"] = parts["service"]
        response = self._token(client, parts["realm"], params, credential)
        if response.status_code == _TOO_MANY:
            raise _rate_limited(registry, response)
        if response.status_code in (_UNAUTHORIZED, _FORBIDDEN):
            return ""
        try:
            body = response.raise_for_status().content
            token = documents.parse(TokenResponse, body, parts["realm"]).value
        except (httpx.HTTPError, documents.DocumentError):
            token = ""
        if not token:
            message = f"{registry} returned no token (HTTP {response.status_code} from {parts['realm']})"
            raise RegistryError(message, "try again later")
        return f"Bearer {token}"

    def _token(
        self, client: httpx.Client, realm: str, params: dict[str, str], credential: Credential | None
    ) -> httpx.Response:
        if credential and credential.is_identity_token:
            form = {**params, "grant_type": "refresh_token", "refresh_token": credential.password}
            return client.post(realm, data={**form, "client_id": "sparkfleet"})
        auth = (credential.user, credential.password) if credential else None
        return client.get(realm, params=params, auth=auth)

    def _raise_for_status(self, response: httpx.Response, registry: str, path: str, what: str) -> None:
        status = response.status_code
        if response.is_success:
            return
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            user = " (user $oauthtoken, password: your NGC key)" if registry == "nvcr.io" else ""
            message = f"{registry} denies access to {path} (HTTP {status}): it is private or does not exist"
            error = self._credential_errors.get(registry)
            if error:
                one = error.diagnostic
                raise RegistryError(f"{message}; credentials: {one.location}: {one.message}", one.hint)
            raise RegistryError(message, f"check the name, then `docker login {registry}`{user}")
        if status == _NOT_FOUND:
            raise RegistryError(f"{registry} has no {path} {what.partition('/')[2]}", "check name and tag")
        if status == _TOO_MANY:
            raise _rate_limited(registry, response)
        raise RegistryError(f"{registry} responded with HTTP {status} for {path}", "try again later")


class _ChallengeAuth(httpx.Auth):
    """Reuses the authorization that the registry accepted; responds to its challenge once."""

    def __init__(
        self,
        accepted: dict[tuple[str, str], str],
        key: tuple[str, str],
        authorize: Callable[[str], str],
    ) -> None:
        self.accepted = accepted
        self.key = key
        self.authorize = authorize

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self.key in self.accepted:
            request.headers["authorization"] = self.accepted[self.key]
        response = yield request
        if response.status_code != _UNAUTHORIZED:
            return
        authorization = self.authorize(response.headers.get("www-authenticate", ""))
        if authorization:
            self.accepted[self.key] = authorization
            request.headers["authorization"] = authorization
            yield request


@contextmanager
def _connection_errors(registry: str) -> Iterator[None]:
    """Turn errors of the HTTP client into ``RegistryError``."""
    try:
        yield
    except (httpx.InvalidURL, ssl.SSLError) as error:
        raise RegistryError(f"{registry}: {error}", "correct 'registries' in group_data") from None
    except httpx.TimeoutException:
        raise RegistryError(f"{registry} did not respond in time", "try again later") from None
    except httpx.HTTPError as error:
        remedy = "check the network; a registry mirror is set with 'registries' in group_data"
        if re.search(r"not yet valid|has expired", str(error)):
            remedy = "check the clock of this machine: date"
        raise RegistryError(f"{registry} cannot be reached: {error}", remedy) from None


def _rate_limited(registry: str, response: httpx.Response) -> RegistryError:
    wait = response.headers.get("retry-after", "")
    when = f"in {wait} s" if wait.isdigit() else "later"
    message = f"the rate limit of {registry} is reached (HTTP 429)"
    return RegistryError(message, f"try again {when}; `docker login` raises the limit")
