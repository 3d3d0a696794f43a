"""A registry, read by the plain protocol: manifests and configs by tag and digest, nothing else.

Every answer that has a digest is checked against it. Anonymous where that is enough; otherwise with what
``docker login`` knows, by the Bearer or Basic challenge of the registry.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from sparkfleet.config.resolved import Mirror
from sparkfleet.lock.credentials import Credential, find

ACCEPT = (
    "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
)
MAX_BYTES = 16 << 20
TIMEOUT = httpx.Timeout(30, connect=10)

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 401, 403, 404, 429


class RegistryError(Exception):
    """What is wrong and what to do, for one image; the caller knows where the image was written."""

    def __init__(self, found: str, remedy: str) -> None:
        """Keep both sentences."""
        super().__init__(found)
        self.found, self.remedy = found, remedy


@dataclass(frozen=True)
class Content:
    """One manifest or config, and the digest that it really has."""

    digest: str
    data: dict[str, Any]
    body: bytes = b""
    """As it came: what the digest is of."""


@dataclass
class Registry:
    """Reads from any registry, at its mirror where one is declared. Not shared between threads."""

    mirrors: Mapping[str, Mirror] = field(default_factory=dict)
    credential: Callable[[str], Credential | None] = find
    _clients: dict[str, httpx.Client] = field(default_factory=dict)
    _authorization: dict[tuple[str, str], str] = field(default_factory=dict)

    def manifest(self, repository: str, reference: str) -> Content:
        """Return the manifest or index of ``registry/path`` by tag or digest. Raise ``RegistryError``."""
        return self._get(repository, f"manifests/{reference}", reference if ":" in reference else "")

    def blob(self, repository: str, digest: str) -> Content:
        """Return a JSON blob by digest. Raise ``RegistryError``."""
        return self._get(repository, f"blobs/{digest}", digest)

    @contextmanager
    def stream(self, repository: str, digest: str, offset: int = 0) -> Iterator[httpx.Response]:
        """Open a blob of any size from a byte on (status 206; 200: from its begin). Raise ``RegistryError``.

        What comes is not checked: it has the digest, or it is not what was asked for.
        """
        registry, _, path = repository.partition("/")
        what = f"blobs/{digest}"
        with _in_words(registry):
            headers = {"range": f"bytes={offset}-"} if offset else {}
            auth = self._auth(registry, path)
            url = f"/v2/{path}/{what}"
            with self._client(registry).stream("GET", url, headers=headers, auth=auth) as response:
                self._refuse(response, registry, path, what)
                yield response

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()

    def _get(self, repository: str, what: str, digest: str) -> Content:
        registry, _, path = repository.partition("/")
        with _in_words(registry):
            response = self._ask(registry, path, what)
        self._refuse(response, registry, path, what)
        body = response.content
        real = f"sha256:{hashlib.sha256(body).hexdigest()}"
        promised = digest or response.headers.get("docker-content-digest", real)
        if real != promised:
            raise RegistryError(
                f"{registry} sent something else than {promised[:19]}...: it has {real[:19]}...",
                "try again; if it stays, the registry or a proxy before it is broken",
            )
        try:
            data = json.loads(body)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise RegistryError(f"{registry} sent no JSON for {path}", "is that a registry? see 'registries'")
        return Content(real, data, body)

    def _ask(self, registry: str, path: str, what: str) -> httpx.Response:
        auth, headers = self._auth(registry, path), {"accept": ACCEPT}
        url = f"/v2/{path}/{what}"
        with self._client(registry).stream("GET", url, headers=headers, auth=auth) as response:
            if int(response.headers.get("content-length", 0)) > MAX_BYTES:
                raise RegistryError(
                    f"{registry} sent more than {MAX_BYTES >> 20} MiB for a manifest", "ask its owner"
                )
            response.read()
        return response

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
                    found = f"the ca_file of {registry} cannot be read: {error.strerror or error}"
                    raise RegistryError(found, "mend 'registries' in group_data") from None
            else:
                context = ssl.create_default_context()
            # Redirects lead to blob storage; httpx leaves the Authorization behind when the host changes.
            self._clients[registry] = httpx.Client(
                base_url=base, verify=context, timeout=TIMEOUT, follow_redirects=True
            )
        return self._clients[registry]

    def _authorize(self, client: httpx.Client, registry: str, path: str, challenge: str) -> str:
        """Return the Authorization header that answers the challenge; "" when there is none."""
        # A mirror has its own account: the registry's password is none of its business.
        mirror = self.mirrors.get(registry)
        credential = self.credential(urlsplit(mirror.url).netloc if mirror else registry)
        kind, _, rest = challenge.partition(" ")
        parts = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if kind.lower() == "basic" and credential:
            pair = f"{credential.user}:{credential.password}".encode()
            return f"Basic {base64.b64encode(pair).decode()}"
        if kind.lower() != "bearer" or "realm" not in parts:
            return ""
        if urlsplit(parts["realm"]).scheme != "https" and client.base_url.scheme == "https":
            raise RegistryError(
                f"{registry} wants the password sent unencrypted to {parts['realm']}", "ask its owner"
            )
        asked = {"scope": parts.get("scope") or f"repository:{path}:pull"}
        if "service" in parts:
            asked["service"] = parts["service"]
        response = self._token(client, parts["realm"], asked, credential)
        if response.status_code == _TOO_MANY:
            raise _rate_limited(registry, response)
        if response.status_code in (_UNAUTHORIZED, _FORBIDDEN):
            return ""
        try:
            answer = response.raise_for_status().json()
            return f"Bearer {answer.get('token') or answer['access_token']}"
        except (httpx.HTTPError, ValueError, KeyError, AttributeError):
            found = f"{registry} gave no token (HTTP {response.status_code} from {parts['realm']})"
            raise RegistryError(found, "try again later") from None

    def _token(
        self, client: httpx.Client, realm: str, asked: dict[str, str], credential: Credential | None
    ) -> httpx.Response:
        if credential and credential.user == "<token>":
            form = {**asked, "grant_type": "refresh_token", "refresh_token": credential.password}
            return client.post(realm, data={**form, "client_id": "sparkfleet"})
        auth = (credential.user, credential.password) if credential else None
        return client.get(realm, params=asked, auth=auth)

    def _refuse(self, response: httpx.Response, registry: str, path: str, what: str) -> None:
        status = response.status_code
        if response.is_success:
            return
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            user = " (user $oauthtoken, password: your NGC key)" if registry == "nvcr.io" else ""
            found = f"{registry} does not let us read {path} (HTTP {status}): private, or not there"
            raise RegistryError(found, f"check the name, then `docker login {registry}`{user}")
        if status == _NOT_FOUND:
            raise RegistryError(f"{registry} has no {path} {what.partition('/')[2]}", "check name and tag")
        if status == _TOO_MANY:
            raise _rate_limited(registry, response)
        raise RegistryError(f"{registry} answered HTTP {status} for {path}", "try again later")


class _ChallengeAuth(httpx.Auth):
    """Sends what the registry accepted before; answers its challenge once, and keeps what that gives."""

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
def _in_words(registry: str) -> Iterator[None]:
    """Tell what broke the connection in words for people."""
    try:
        yield
    except (httpx.InvalidURL, ssl.SSLError) as error:
        raise RegistryError(f"{registry}: {error}", "mend 'registries' in group_data") from None
    except httpx.TimeoutException:
        raise RegistryError(f"{registry} did not answer in time", "try again later") from None
    except httpx.HTTPError as error:
        remedy = "is the network there? a registry inside the house is set by 'registries' in group_data"
        raise RegistryError(f"{registry} cannot be reached: {error}", remedy) from None


def _rate_limited(registry: str, response: httpx.Response) -> RegistryError:
    wait = response.headers.get("retry-after", "")
    when = f"in {wait} s" if wait.isdigit() else "later"
    return RegistryError(
        f"{registry} limits our rate (HTTP 429)", f"try again {when}; `docker login` raises the limit"
    )
