"""Input and result of a lint rule."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from packaging.version import InvalidVersion, Version

from sparkfleet.contract.diagnostic import Diagnostic, Severity
from sparkfleet.desired_state import Host, ImageRef, Service
from sparkfleet.engines import model_architecture
from sparkfleet.engines.base import SERVICE, field_of, total_memory
from sparkfleet.engines.model_architecture import ModelArchitecture
from sparkfleet.engines.vllm import args, images, schema
from sparkfleet.engines.vllm.memory import Measured
from sparkfleet.engines.vllm.schema import Schema

NO_IMAGE = ImageRef("")
"""Image of a service whose runtime has none: no rule on images applies to it."""
_SET_BY_RULE = ""
"""``Rule.check`` replaces it by the rule's id."""


def error(message: str, hint: str, at: str = SERVICE) -> Diagnostic:
    """Return an error: the engine will not start, or the model will not work.

    ``at``: the flag (``--max-num-seqs``) or field (``env.HF_HOME``, ``image``) whose line a user changes.
    """
    return Diagnostic(at, message, hint=hint, severity=Severity.ERROR, code=_SET_BY_RULE)


def warning(message: str, hint: str, at: str = SERVICE) -> Diagnostic:
    """Return a warning: probably not as intended. ``at`` as of ``error``."""
    return Diagnostic(at, message, hint=hint, severity=Severity.WARNING, code=_SET_BY_RULE)


def info(message: str, hint: str = "", at: str = SERVICE) -> Diagnostic:
    """Return an info. ``at`` as of ``error``."""
    return Diagnostic(at, message, hint=hint, severity=Severity.INFO, code=_SET_BY_RULE)


@dataclass(frozen=True)
class Rule:
    """One lint rule: what it requires, its source, and the check."""

    id: str
    title: str
    """The requirement as a sentence."""
    source: str
    decide: Callable[[Case], Diagnostic | None]
    needs_lock: bool = False
    """Whether it is about what a lock file pins."""

    def check(self, case: Case) -> Diagnostic | None:
        """Return the diagnostic of a service that breaks the rule."""
        found = self.decide(case)
        if found is None:
            return None
        text = f"{found.message} [{self.id}]"
        return replace(found, location=_field(case, found.location), message=text, code=self.id)


def _field(case: Case, at: str) -> str:
    """Return the field of the service (``flags.max-num-seqs``) for a flag; SERVICE if no file has it."""
    name = at.removeprefix("--")
    if at == name:
        return field_of(case.service, at)
    spellings = (name, f"no-{name}", *(flag for flag, _ in case.service.flags if flag.startswith(f"{name}.")))
    return field_of(case.service, *(f"flags.{flag}" for flag in spellings))


def rule(
    id_: str, title: str, source: str, *, needs_lock: bool = False
) -> Callable[[Callable[[Case], Diagnostic | None]], Rule]:
    """Return a decorator that makes a rule of a function."""
    return lambda decide: Rule(id_, title, source, decide, needs_lock)


@dataclass(frozen=True)
class Case:
    """Input of a rule: one service of one Spark."""

    service: Service
    host: Host
    total_gib: float
    """Memory of the Spark."""
    schema: Schema
    exact: bool
    """The schema is that of the image's own vLLM."""
    version: Version | None
    """vLLM inside the image; None: unknown."""
    values: Mapping[str, Any]
    """Canonical flag -> value."""
    total_is_assumed: bool = False
    """The Spark's memory was neither read nor declared."""
    measured: Measured | None = None
    """Memory figures from the engine's log of its last start with this model and image."""

    @property
    def image(self) -> ImageRef:
        """The service's image, NO_IMAGE without one."""
        return self.service.image or NO_IMAGE

    @functools.cached_property
    def env(self) -> Mapping[str, str]:
        """The service's environment."""
        return dict(self.service.env)

    @functools.cached_property
    def config(self) -> Mapping[str, Any]:
        """The model's config.json as far as the lock file has it; empty when it is not locked."""
        return dict(self.service.weights.config)

    @functools.cached_property
    def shape(self) -> ModelArchitecture | None:
        """The model's layers; None if unknown."""
        return model_architecture.from_config(self.config)

    @property
    def weights_gib(self) -> float:
        """Size of the model's and its drafters' files; 0 when they are not locked."""
        return sum(weights.size for weights in (self.service.weights, *self.service.drafters)) / 2**30

    @property
    def total_text(self) -> str:
        """Return the Spark's memory, and whether it is assumed, for a message."""
        note = ", assumed: 'memory_gib' in the host file declares it" if self.total_is_assumed else ""
        return f"{self.total_gib:.1f} GiB{note}"

    def is_model(self, pattern: str) -> bool:
        """Return whether the repository's name has the pattern in it, whoever publishes it."""
        return re.search(pattern, self.service.weights.repo, re.IGNORECASE) is not None

    def below(self, version: str) -> bool:
        """Return whether the image's vLLM is known to be older than that."""
        return self.version is not None and self.version < Version(version)

    def since(self, version: str) -> bool:
        """Return whether the image's vLLM is known to be that one or newer."""
        return self.version is not None and self.version >= Version(version)

    def text(self, flag: str) -> str:
        """Return a flag's value as text; "" if not set."""
        value = self.values.get(flag)
        return "" if value is None else str(value)

    def number(self, flag: str) -> float | None:
        """Return a flag's value as a number; None if not set or no number."""
        value = self.values.get(flag)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def on(self, flag: str) -> bool:
        """Return whether a switch is on."""
        return self.values.get(flag) is True

    @property
    def allocator(self) -> str:
        """Return the settings of PyTorch's allocator."""
        return self.env.get("PYTORCH_CUDA_ALLOC_CONF", "") or self.env.get("PYTORCH_ALLOC_CONF", "")

    @property
    def is_rank(self) -> bool:
        """Return whether the service is that of the Spark's cluster, whose file has checks of its own."""
        member = self.host.member
        return member is not None and member.service == self.service.name

    @property
    def quantization(self) -> Mapping[str, Any]:
        """``quantization_config`` of the checkpoint; empty if it has none or is not locked."""
        inner = self.config.get("text_config")
        found = self.config.get("quantization_config")
        if found is None and isinstance(inner, Mapping):
            found = inner.get("quantization_config")
        return found if isinstance(found, Mapping) else {}

    @property
    def speculative(self) -> Mapping[str, Any]:
        """The speculative config; empty if there is none."""
        value = self.values.get("--speculative-config")
        return value if isinstance(value, Mapping) else {}

    @property
    def method(self) -> str:
        """Method of speculative decoding; "" if there is none."""
        return str(self.speculative.get("method", ""))

    @property
    def has_fp8_cache(self) -> bool:
        """Return whether the KV cache is FP8."""
        return self.text("--kv-cache-dtype").startswith("fp8")

    @property
    def is_moe(self) -> bool:
        """Return whether the model is a mixture of experts, by its config or its name (``-A3B``)."""
        text = self.config.get("text_config")
        configs = (self.config, text if isinstance(text, Mapping) else {})
        names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size")
        return any(config.get(name) for config in configs for name in names) or self.is_model(r"-A\d+B\b")

    @property
    def added_packages(self) -> Mapping[str, str]:
        """Python packages that the recipe adds to the image, by normalised name."""
        return {name.lower().replace("_", "-"): spec for name, spec in self.service.requires_packages}

    def has_package(self, name: str) -> bool | None:
        """Return whether the image has a Python package; None: not known.

        What the recipe asks for is there (a derived image has it). An image's own schema lists what it has; a
        bundled one what the release requires, which says nothing of others.
        """
        if name in self.added_packages or name in self.schema.packages:
            return True
        return False if "vllm" in self.schema.packages else None


def case_of(service: Service, host: Host, total_gib: float | None, own_schema: Schema | None = None) -> Case:
    """Return the case of a service.

    ``total_gib``: the Spark's memory, and ``known``: the image's own schema, where they were read.
    """
    image = service.image or NO_IMAGE
    named = service.engine_version or images.vllm_version(image.repository, image.tag)
    bundled, exact = schema.nearest(named)
    used = own_schema or bundled
    argv = args.render(service.weights.repo, dict(service.flags), used)
    return Case(
        service=service,
        host=host,
        total_gib=total_memory(host) if total_gib is None else total_gib,
        total_is_assumed=total_gib is None and not host.memory_gib,
        schema=used,
        exact=exact or own_schema is not None,
        version=_version(own_schema.version if own_schema else named),
        values=args.parse(argv, used).values,
    )


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
