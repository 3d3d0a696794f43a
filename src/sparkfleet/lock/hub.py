"""Resolves a model repository: its current commit, the files that an engine loads, values of its config."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import httpx
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from pydantic import BaseModel

from sparkfleet import engines
from sparkfleet.config.lock_data import LockedModel
from sparkfleet.contract import hub_access
from sparkfleet.desired_state import WeightFile, Weights
from sparkfleet.engines.base import ModelFilesError
from sparkfleet.lock import documents
from sparkfleet.lock.documents import HfQuantConfig, ModelConfig
from sparkfleet.lock.errors import HubError
from sparkfleet.lock.model_config import select

TIMEOUT_S = 30
MAX_CONFIG_BYTES = 8 << 20

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 401, 403, 404, 429
_CHECK_ENDPOINT = "check 'hf_endpoint' in group_data: is it a model hub?"
M = TypeVar("M", bound=BaseModel)


class _Response(Protocol):
    """What the responses of all HTTP clients have."""

    status_code: int

    @property
    def headers(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Hub:
    """The Hugging Face Hub, or another that speaks its API."""

    endpoint: str = ""
    """"": HF_ENDPOINT of the environment, else huggingface.co."""
    token: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Return the hub's address."""
        return (self.endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")

    def resolve(
        self, repo: str, revision: str, engine_name: str = engines.DEFAULT, pattern: str = ""
    ) -> LockedModel:
        """Return the repository at the current commit of ``revision`` ("" is the default branch).

        Its files are those that the engine loads and that match ``pattern``.
        """
        info = self._info(repo, revision)
        if not info.sha:
            raise HubError(f"{self.url} returned no commit of {repo}", _CHECK_ENDPOINT)
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
        engine = engines.get(engine_name)
        try:
            files = engine.model_files((_file(repo, sibling) for sibling in siblings.values()), pattern)
        except ModelFilesError as error:
            one = error.diagnostic
            raise HubError(f"{repo}: {one.message}", one.hint) from None
        if not files:
            matching = f" and match '{pattern}'" if pattern else ""
            raise HubError(
                f"{repo} has no weights that {engine.title} loads ({engine.weights_hint}){matching}",
                f"choose a repository with weights for {engine.title}, or another engine",
            )
        config = self._config(repo, info.sha, siblings)
        if not config and engine.header_bytes:
            config = dict(engine.model_config(self._header(repo, info.sha, files[0], engine.header_bytes)))
        locked_config = tuple(sorted(config.items()))
        weights = Weights(repo, info.sha, files, bool(info.gated), locked_config, pattern)
        return LockedModel(weights, revision)

    def _info(self, repo: str, revision: str) -> ModelInfo:
        api = HfApi(endpoint=self.url, token=self.token or False)
        try:
            return api.model_info(repo, revision=revision or None, files_metadata=True, timeout=TIMEOUT_S)
        except HFValidationError as error:
            message = f"'{repo}' is not a valid repository name: {error}"
            raise HubError(message, "write organisation/name") from None
        except HfHubHTTPError as error:
            raise self._error(repo, revision, error.response, error) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"{self.url} returned an invalid response for {repo} ({type(error).__name__})"
            raise HubError(message, _CHECK_ENDPOINT) from None
        except Exception as error:  # noqa: BLE001  (each release of it uses another HTTP client, with other errors)
            raise self._unreachable_error(error) from None

    def _config(self, repo: str, commit: str, siblings: dict[str, RepoSibling]) -> dict[str, Any]:
        """Return values of config.json, or of params.json or adapter_config.json if there is none."""
        values: dict[str, Any] = {}
        for name in ("config.json", "params.json", "adapter_config.json"):
            if name in siblings:
                values = select(self._document(ModelConfig, repo, commit, siblings[name]).root)
                break
        if "quantization_config" not in values and "hf_quant_config.json" in siblings:
            quant = self._document(HfQuantConfig, repo, commit, siblings["hf_quant_config.json"])
            if quant.quantization is not None:
                values["hf_quant_config"] = select(quant.quantization)
        return values

    def _header(self, repo: str, commit: str, file: WeightFile, count: int) -> bytes:
        """Return the first bytes of a file; none if the hub does not send them. For estimates."""
        url = f"{self.url}/{repo}/resolve/{commit}/{file.path}"
        headers = {"range": f"bytes=0-{count - 1}"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        try:
            with httpx.stream("GET", url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True) as found:
                return next(found.iter_bytes(count), b"") if found.is_success else b""
        except httpx.HTTPError:
            return b""

    def _document(self, model: type[M], repo: str, commit: str, sibling: RepoSibling) -> M:
        url = f"{self.url}/{repo}/resolve/{commit}/{sibling.rfilename}"
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        if (sibling.size or 0) > MAX_CONFIG_BYTES:
            message = f"{sibling.rfilename} of {repo} is too large: {sibling.size} bytes"
            raise HubError(message, "check the name of the repository")
        try:
            response = httpx.get(url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True)
        except httpx.HTTPError as error:
            raise self._unreachable_error(error) from None
        if not response.is_success:
            raise self._error(repo, commit, response, None)
        _check(repo, sibling, response.content)
        try:
            return documents.parse(model, response.content, f"{sibling.rfilename} of {repo}")
        except documents.DocumentError as error:
            raise HubError(str(error), "check the name of the repository") from None

    def _error(
        self, repo: str, revision: str, response: _Response | None, error: Exception | None
    ) -> HubError:
        status = response.status_code if response is not None else 0
        code = response.headers.get("x-error-code", "") if response is not None else ""
        if response is not None and status in (_UNAUTHORIZED, _FORBIDDEN):
            token_known = status != _UNAUTHORIZED or not self.token or self._knows_token()
            headers = {name.title(): value for name, value in response.headers.items()}
            access = hub_access.judge(status, headers, token=bool(self.token), token_known=token_known)
            refused = hub_access.refusal(access, repo, self.url)
            if refused:
                return HubError(refused.message, refused.hint)
        if isinstance(error, RevisionNotFoundError) or code == "RevisionNotFound":
            return HubError(f"{repo} has no revision '{revision}'", "correct or remove 'revision:'")
        if status == _TOO_MANY and response is not None:
            wait = response.headers.get("retry-after", "")
            when = f"in {wait} s" if wait.isdigit() else "later"
            return HubError(
                f"the rate limit of {self.url} is reached (HTTP 429)",
                f"try again {when}; a token raises the limit",
            )
        if isinstance(error, RepositoryNotFoundError) or status in (_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND):
            # The hub responds with 401 to both, a missing repository and a private one.
            return self._not_found_error(repo, status)
        return HubError(f"{self.url} responded with HTTP {status} for {repo}", "try again later")

    def _knows_token(self) -> bool:
        """Return whether the hub accepts the token; True if it does not respond."""
        headers = {"authorization": f"Bearer {self.token}"}
        try:
            return httpx.get(f"{self.url}/api/whoami-v2", headers=headers, timeout=TIMEOUT_S).status_code != (
                _UNAUTHORIZED
            )
        except httpx.HTTPError:
            return True

    def _not_found_error(self, repo: str, status: int) -> HubError:
        message = f"{repo} does not exist on {self.url}, or is private"
        if self.token and status == _UNAUTHORIZED:
            message = f"{repo} does not exist on {self.url}, or this token has no access to it (HTTP 401)"
        return HubError(
            message, "check the name; a private repository needs a token: 'hf_token' in group_data"
        )

    def _unreachable_error(self, error: Exception) -> HubError:
        if "Timeout" in type(error).__name__:
            return HubError(f"no response from {self.url} within {TIMEOUT_S} s", "try again later")
        return HubError(
            f"{self.url} cannot be reached: {error}",
            "check the network; a hub of your own is set with 'hf_endpoint' in group_data",
        )


def _file(repo: str, sibling: RepoSibling) -> WeightFile:
    if sibling.size is None:
        raise HubError(f"the hub returned no size of {sibling.rfilename} in {repo}", "try again later")
    sha256 = sibling.lfs.sha256 if sibling.lfs else ""
    if not sha256 and not sibling.blob_id:
        raise HubError(
            f"the hub returned no hash of {sibling.rfilename} in {repo}", "use a hub that has file hashes"
        )
    return WeightFile(sibling.rfilename, sibling.size, sha256, sha256 or sibling.blob_id or "")


def _check(repo: str, sibling: RepoSibling, content: bytes) -> None:
    """Verify the content against the hub's hash of the file."""
    if sibling.lfs:
        actual, expected = hashlib.sha256(content).hexdigest(), sibling.lfs.sha256
    else:
        # The hub has a git object id of small files.
        actual = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        expected = sibling.blob_id or actual
    if actual != expected:
        raise HubError(
            f"{sibling.rfilename} of {repo} does not match the hub's hash",
            "try again; if it happens again, the hub or a proxy in between is faulty",
        )
