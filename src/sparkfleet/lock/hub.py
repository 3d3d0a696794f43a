"""A model repository as it is now: its commit, the files that an engine loads, figures of its config."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from sparkfleet import engines
from sparkfleet.config.locked import LockedModel
from sparkfleet.config.resolved import WeightFile, Weights
from sparkfleet.contract import hub_access
from sparkfleet.contract.generation import DEFAULT_ENGINE
from sparkfleet.engines.base import ModelFilesError
from sparkfleet.lock.model_config import figures

TIMEOUT_S = 30
MAX_CONFIG_BYTES = 8 << 20

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 401, 403, 404, 429


class HubError(Exception):
    """What is wrong and what to do, for one repository; the caller knows where it was written."""

    def __init__(self, found: str, remedy: str) -> None:
        """Keep both sentences."""
        super().__init__(found)
        self.found, self.remedy = found, remedy


class _Response(Protocol):
    """What any HTTP client's answer has."""

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
        self, repo: str, asked: str, engine_name: str = DEFAULT_ENGINE, pattern: str = ""
    ) -> LockedModel:
        """Return the repository at the commit that ``asked`` means now ("" is the default branch).

        Files are those that the engine loads, of those that match ``pattern``.
        """
        info = self._info(repo, asked)
        if not info.sha:
            raise HubError(f"{self.url} names no commit of {repo}", "is that a model hub? see 'hf_endpoint'")
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
        engine = engines.get(engine_name)
        try:
            files = engine.model_files((_file(repo, sibling) for sibling in siblings.values()), pattern)
        except ModelFilesError as error:
            raise HubError(f"{repo}: {error}", error.hint) from None
        if not files:
            matching = f" and match '{pattern}'" if pattern else ""
            raise HubError(
                f"{repo} has no weights that {engine.title} loads ({engine.weights_hint}){matching}",
                f"name a repository with weights for {engine.title}, or another engine",
            )
        config = self._config(repo, info.sha, siblings)
        locked_config = tuple(sorted(config.items()))
        weights = Weights(repo, info.sha, files, bool(info.gated), locked_config, pattern)
        return LockedModel(weights, asked)

    def _info(self, repo: str, asked: str) -> ModelInfo:
        api = HfApi(endpoint=self.url, token=self.token or False)
        try:
            return api.model_info(repo, revision=asked or None, files_metadata=True, timeout=TIMEOUT_S)
        except HFValidationError as error:
            raise HubError(
                f"'{repo}' is no name of a repository: {error}", "write organisation/name"
            ) from None
        except HfHubHTTPError as error:
            raise self._refused(repo, asked, error.response, error) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            found = f"{self.url} answers {repo} with something that is no model ({type(error).__name__})"
            raise HubError(found, "is that a model hub? see 'hf_endpoint'") from None
        except Exception as error:  # noqa: BLE001  (its releases use different HTTP clients, with errors of their own)
            raise self._unreachable(error) from None

    def _config(self, repo: str, commit: str, siblings: dict[str, RepoSibling]) -> dict[str, Any]:
        """Return the figures of config.json (of params.json where that is all there is)."""
        kept: dict[str, Any] = {}
        for name in ("config.json", "params.json"):
            if name in siblings:
                kept = figures(self._json(repo, commit, siblings[name]))
                break
        if "quantization_config" not in kept and "hf_quant_config.json" in siblings:
            quant = self._json(repo, commit, siblings["hf_quant_config.json"]).get("quantization")
            if isinstance(quant, dict):
                kept["hf_quant_config"] = figures(quant)
        return kept

    def _json(self, repo: str, commit: str, sibling: RepoSibling) -> dict[str, Any]:
        url = f"{self.url}/{repo}/resolve/{commit}/{sibling.rfilename}"
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        if (sibling.size or 0) > MAX_CONFIG_BYTES:
            raise HubError(
                f"{sibling.rfilename} of {repo} has {sibling.size} bytes", "is that the right repository?"
            )
        try:
            response = httpx.get(url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if not response.is_success:
            raise self._refused(repo, commit, response, None)
        _check(repo, sibling, response.content)
        try:
            data = json.loads(response.content)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise HubError(
                f"{sibling.rfilename} of {repo} is no JSON object", "is that the right repository?"
            )
        return data

    def _refused(
        self, repo: str, asked: str, response: _Response | None, error: Exception | None
    ) -> HubError:
        status = response.status_code if response is not None else 0
        code = response.headers.get("x-error-code", "") if response is not None else ""
        if response is not None and status in (_UNAUTHORIZED, _FORBIDDEN):
            known = status != _UNAUTHORIZED or not self.token or self._knows_token()
            headers = {name.title(): value for name, value in response.headers.items()}
            found = hub_access.judge(status, headers, token=bool(self.token), token_known=known)
            refused = hub_access.refusal(found, repo, self.url)
            if refused:
                return HubError(*refused)
        if isinstance(error, RevisionNotFoundError) or code == "RevisionNotFound":
            return HubError(f"{repo} has no revision '{asked}'", "check 'revision:', or leave it out")
        if status == _TOO_MANY and response is not None:
            wait = response.headers.get("retry-after", "")
            when = f"in {wait} s" if wait.isdigit() else "later"
            return HubError(
                f"{self.url} limits our rate (HTTP 429)", f"try again {when}; a token raises the limit"
            )
        if isinstance(error, RepositoryNotFoundError) or status in (_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND):
            # The hub answers 401 for what is not there as for what is private: it does not tell which.
            return self._not_there(repo, status)
        return HubError(f"{self.url} answers HTTP {status} for {repo}", "try again later")

    def _knows_token(self) -> bool:
        """Tell whether the hub knows whose token this is; a hub that does not say is believed to."""
        headers = {"authorization": f"Bearer {self.token}"}
        try:
            return httpx.get(f"{self.url}/api/whoami-v2", headers=headers, timeout=TIMEOUT_S).status_code != (
                _UNAUTHORIZED
            )
        except httpx.HTTPError:
            return True

    def _not_there(self, repo: str, status: int) -> HubError:
        found = f"{self.url} has no {repo}, or it is private"
        if self.token and status == _UNAUTHORIZED:
            found = f"{self.url} shows no {repo} to this token (HTTP 401): private, or not there"
        return HubError(
            found, "check the name; for a private one, the token that 'hf_token' in group_data names"
        )

    def _unreachable(self, error: Exception) -> HubError:
        if "Timeout" in type(error).__name__:
            return HubError(f"{self.url} did not answer in {TIMEOUT_S} s", "try again later")
        return HubError(
            f"{self.url} cannot be reached: {error}",
            "is the network there? a hub inside the house is set by 'hf_endpoint' in group_data",
        )


def _file(repo: str, sibling: RepoSibling) -> WeightFile:
    if sibling.size is None:
        raise HubError(f"the hub gives no size of {sibling.rfilename} in {repo}", "try again later")
    sha256 = sibling.lfs.sha256 if sibling.lfs else ""
    return WeightFile(sibling.rfilename, sibling.size, sha256, sha256 or sibling.blob_id or "")


def _check(repo: str, sibling: RepoSibling, content: bytes) -> None:
    """Compare what was sent with the hash that the hub gives for it."""
    if sibling.lfs:
        real, promised = hashlib.sha256(content).hexdigest(), sibling.lfs.sha256
    else:
        # A git object id is what the hub has for small files.
        real = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        promised = sibling.blob_id or real
    if real != promised:
        raise HubError(
            f"{sibling.rfilename} of {repo} came with another content than the hub promises",
            "try again; if it stays, the hub or a proxy before it is broken",
        )
