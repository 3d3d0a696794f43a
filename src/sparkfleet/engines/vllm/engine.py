"""vLLM on the operator's side."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from sparkfleet.contract.diagnostic import Diagnostic, Severity
from sparkfleet.contract.generation import Task
from sparkfleet.desired_state import snapshot_directory
from sparkfleet.engines.base import (
    GIB,
    ArgCheck,
    ArgChecker,
    Engine,
    ExtraModel,
    FlagChange,
    Footprints,
    ImageBase,
    Packages,
    ParsedArgs,
    RuleInfo,
    field_of,
)
from sparkfleet.engines.vllm import (
    adapters,
    args,
    calibrate,
    check,
    compare,
    flag_facts,
    image_parser,
    images,
    memory,
    model_files,
    packages,
    parallelism,
    renamed_flags,
    rules,
    schema,
    schema_cache,
    upgrade,
)
from sparkfleet.engines.vllm.cluster import VllmCluster
from sparkfleet.engines.vllm.schema import Schema

if TYPE_CHECKING:
    from sparkfleet.desired_state import FlagValue, Host, ImageRef, Service, WeightFile

_VERSION = re.compile(r"v?(\d+\.\d+\.\d+(?:\.\d+)?(?:\.?(?:post|rc|dev)\d+)?)")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
ASSUMED_SHARE = 0.92
"""Default of ``--gpu-memory-utilization`` (0.9 before vLLM 0.20)."""
LOADED_SHARE = 0.75
"""Share of a model's files that is loaded in any case: drafting layers or a vision tower may be left out."""


class VllmArgChecker(ArgChecker):
    """``data/ask_parser.py`` in the image."""

    interpreter = "python3"
    timeout_s = image_parser.TIMEOUT_S

    def program(self) -> str:
        """See ``ArgChecker``."""
        return image_parser.SCRIPT.read_text(encoding="utf-8")

    def check_args(self, argv: Sequence[str]) -> tuple[str, ...]:
        """See ``ArgChecker``."""
        return image_parser.parse_args(argv)

    def read_check(self, output: str) -> ArgCheck:
        """See ``ArgChecker``."""
        return image_parser.read_check(output)

    def describe(self) -> tuple[str, ...]:
        """See ``ArgChecker``."""
        return image_parser.schema_args()

    def is_kept(self, image: str) -> bool:
        """See ``ArgChecker``."""
        return schema_cache.lookup(image) is not None

    def keep(self, image: str, output: str) -> None:
        """See ``ArgChecker``."""
        schema_cache.keep(image, output)


class Vllm(Engine):
    """vLLM: flags of every bundled release, rules, memory estimate, clusters by Ray or mp."""

    name = "vllm"
    title = "vLLM"
    reserved_flags: Mapping[str, str] = {
        "port": "the field 'port:' of the service",
        "served-model-name": "the field 'served_name:' of the service",
        "revision": "the field 'revision:' of the service",
        "model": "the field 'model:' of the service",
        "model-tag": "the field 'model:' of the service",
        "host": "nothing: the engine listens on every address of its container",
    }
    secret_flags = frozenset({"api-key", "hf-token"})
    secret_env = frozenset({"VLLM_API_KEY"})
    repository_flags = frozenset({"tokenizer"})
    shown_flags: Mapping[str, str] = {"--port": "port", "--served-model-name": "served name"}
    model_flags = frozenset({"model", "--model", "--revision"})
    entrypoint_hint = "an image whose entrypoint is empty, a wrapper, or `vllm serve`"
    takes_aliases = True
    tasks = frozenset({Task.CHAT, Task.COMPLETION, Task.EMBEDDING})
    weights_hint = "safetensors, or .bin"
    footprints = Footprints(
        programs=("vllm",),
        in_containers=("ray start",),
        directories=("/var/lib/spark-vllm-docker", "/opt/spark-vllm-docker", "/opt/vllm"),
        netplan_files={"98-spark-vllm-docker.yaml": "spark-vllm-docker"},
    )
    cluster = VllmCluster()
    arg_checker = VllmArgChecker()
    rule_sources: Mapping[str, str] = {
        "dgx-vllm": "F. Vlaicu, Dgx Vllm, 2026-06-20: https://vlaicu.io/posts/dgx-vllm/",
        "dgx-spark-playbooks#N": "https://github.com/NVIDIA/dgx-spark-playbooks/issues/N",
        "mistral-nemo-spark": "guide: vLLM: Mistral-NeMo-12B-Instruct-FP8 on NVIDIA DGX Spark",
        "mistral-small-4-spark": "article: Mistral Small 4 on a DGX Spark",
        "vllm#N": "https://github.com/vllm-project/vllm/issues/N",
        "vLLM's recipes": "https://recipes.vllm.ai/",
    }

    def load_data(self) -> None:
        """See ``Engine``."""
        for version in schema.versions():
            if "--max-model-len" not in schema.load(version).flags:
                raise ValueError(f"the schema of vLLM {version} has no flag --max-model-len")
        images.read()
        renamed_flags.read()

    def image_version(
        self, image: ImageRef, env: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None
    ) -> str:
        """See ``Engine``."""
        for text in ((env or {}).get("VLLM_VERSION", ""), (labels or {}).get("io.vllm.version", "")):
            match = _VERSION.match(text)
            if match:
                return match[1]
        return image.engine_version or images.vllm_version(image.repository, image.tag)

    def image_base(self, image: ImageRef) -> ImageBase | None:
        """See ``Engine``."""
        found = images.ngc_base(image.repository, image.tag)
        return ImageBase(found.cuda, found.driver) if found else None

    def command_prefix(self, entrypoint: Sequence[str]) -> tuple[str, ...] | None:
        """See ``Engine``."""
        return images.serve_prefix(entrypoint)

    def args_of(self, argv: Sequence[str]) -> tuple[str, ...]:
        """See ``Engine``."""
        return images.args_after_serve(argv)

    def image_packages(self, version: str) -> Mapping[str, str]:
        """See ``Engine``."""
        return packages.included(version)

    def lacking_packages(self, required: Packages, version: str) -> Packages:
        """See ``Engine``."""
        return packages.lacking(required, version)

    def full_flag(self, name: str, value: FlagValue) -> tuple[str, FlagValue]:
        """See ``Engine``."""
        return args.full_flag(name, value)

    def flag_names(self) -> Iterable[str]:
        """See ``Engine``."""
        return flag_facts.names()

    def flag_facts(self, name: str) -> Mapping[str, str]:
        """See ``Engine``."""
        return flag_facts.of(name)

    def args(self, service: Service) -> tuple[str, ...]:
        """Return the args of ``vllm serve``, model first."""
        return _render(service, _schema(service.engine_version))

    def parse_args(self, args_: Sequence[str], version: str) -> ParsedArgs:
        """See ``Engine``."""
        parsed = args.parse(args_, _schema(version) if version else None)
        return ParsedArgs(parsed.model, str(parsed.values.get("--revision") or ""), parsed.values)

    def compare_args(self, old: Sequence[str], new: Sequence[str], version: str) -> tuple[FlagChange, ...]:
        """See ``Engine``."""
        return compare.differences(old, new, _schema(version) if version else None)

    def environment(self, models: str, cache: str) -> Mapping[str, str]:
        """See ``Engine``."""
        return {
            "HF_HOME": models,
            "HF_HUB_OFFLINE": "1",  # weights are complete before the start: the engine never downloads
            "VLLM_CACHE_ROOT": f"{cache}/vllm",
            "TRITON_CACHE_DIR": f"{cache}/triton",
        }

    def model_files(self, files: Iterable[WeightFile], pattern: str = "") -> tuple[WeightFile, ...]:
        """See ``Engine``. ``pattern`` has no use: a repository of safetensors is one model."""
        del pattern
        return model_files.loaded(files)

    def extra_models(self, flags: Mapping[str, Any]) -> tuple[ExtraModel, ...]:
        """Return LoRA adapters on the hub, and the drafter unless it is part of the model's repository."""
        found = tuple(dict.fromkeys(adapters.of_hub(flags.get(adapters.FLAG))))
        speculative = flags.get("speculative-config")
        if not isinstance(speculative, dict):
            return found
        repo = str(speculative.get("model") or "")
        if not _REPOSITORY.fullmatch(repo):
            return found
        drafter = ExtraModel("speculative-config", repo, str(speculative.get("revision") or ""))
        return (drafter, *found)

    def pin_extra_models(
        self, flags: Mapping[str, FlagValue], revisions: Mapping[str, str]
    ) -> Mapping[str, FlagValue]:
        """Return the flags with the drafter's commit, and the directories of adapters.

        An engine without network knows no branch of a repository.
        """
        if adapters.FLAG in flags:
            places = {repo: snapshot_directory(repo, commit) for repo, commit in revisions.items() if commit}
            flags = {**flags, adapters.FLAG: adapters.pinned(flags[adapters.FLAG], places)}
        speculative = flags.get("speculative-config")
        if not isinstance(speculative, dict):
            return flags
        revision = revisions.get(str(speculative.get("model") or ""))
        if not revision:
            return flags
        return {**flags, "speculative-config": {**speculative, "revision": revision}}

    def is_speculative(self, flags: Mapping[str, Any]) -> bool:
        """See ``Engine``."""
        return "speculative-config" in flags

    def check(
        self, service: Service, host: Host, *, total_gib: float | None = None, measured: object = None
    ) -> tuple[Diagnostic, ...]:
        """See ``Engine``."""
        image, own, version = service.image, None, ""
        if image is not None:
            own, version = schema_cache.lookup(image.digest), self.image_version(image)
            image = replace(image, engine_version=version)
        versioned = replace(service, image=image)
        found = rules.check(
            versioned,
            host,
            schema=own,
            total_gib=total_gib,
            measured=_measured(measured),
        )
        return (*self._check_args(service, own, version), *found)

    def rules(self) -> tuple[RuleInfo, ...]:
        """See ``Engine``."""
        return _rules()

    def upgrade_notes(
        self, old: ImageRef, new: ImageRef, services: Iterable[Service]
    ) -> Sequence[str] | None:
        """See ``Engine``."""
        return upgrade.notes(old, new, services)

    def required_gib(self, service: Service) -> float:
        """Return most of one GPU's weights: files may hold parts that this service does not load.

        0 where the weights in memory may be smaller than their files: quantized by vLLM, loaded with 16 of 32
        bits (vLLM's default), or kept elsewhere by a fork.
        """
        flags, config = dict(service.flags), dict(service.weights.config)
        quantizes = flags.get("quantization") and "quantization_config" not in config
        parts = (config, config.get("text_config") or {})
        halves = any(part.get(key) == "float32" for part in parts for key in ("dtype", "torch_dtype"))
        if quantizes or halves or (service.image and images.is_fork(service.image.repository)):
            return 0.0
        return LOADED_SHARE * service.weights.size / GIB / parallelism.gpus(flags)

    def memory_share(self, flags: Mapping[str, Any]) -> float | None:
        """See ``Engine``."""
        named = {name.replace("_", "-"): value for name, value in flags.items()}
        share = named.get("gpu-memory-utilization", ASSUMED_SHARE)
        return float(share) if isinstance(share, int | float) else ASSUMED_SHARE

    def memory_estimate(
        self, service: Service, host: Host, *, total_gib: float, measured: object = None
    ) -> str:
        """See ``Engine``."""
        found = rules.estimate(service, host, total_gib=total_gib, measured=_measured(measured))
        return found.text() if found else ""

    def measured(
        self, service: Service, argv: Sequence[str], log: str, total_gib: float
    ) -> memory.Measured | None:
        """See ``Engine``."""
        known = schema.nearest(service.engine_version)[0]
        flags = memory.settings(args.parse(argv, known).values, known, total_gib)
        return calibrate.measured(log, flags, total_gib)

    def _check_args(self, service: Service, own: Schema | None, named: str) -> Iterator[Diagnostic]:
        """Check against the image's own schema if it is cached, else the nearest bundled one."""
        image = service.image
        if own is None and image is not None and images.is_fork(image.repository):
            yield _fork(service, image)
            return
        version = own.version if own else named
        if not version:
            text = f"the vLLM release in {service.engine_source} is unknown, so flags are not checked"
            hint = "no action needed: the image's own parser checks them before the running engine stops"
            yield Diagnostic(
                field_of(service, "image"), text, hint=hint, severity=Severity.WARNING,
                code="unknown-engine-version",
            )  # fmt: skip
            return
        yield from _check_version(service, version)
        release, exact = (own, True) if own else schema.nearest(version)
        if not exact:
            yield _other_release(service, version, release.version)
        switches = _not_switched(service, release)
        yield from switches.values()
        readable = tuple(pair for pair in service.flags if pair[0] not in switches)
        flags = check.check_flags(_render(replace(service, flags=readable), release), release, exact)
        env = check.check_env(dict(service.env), release, exact=exact)
        for one in (*flags, *env):
            yield replace(one, location=_field(service, one))


def _schema(version: str) -> Schema:
    """Return the schema that flags are rendered by: of an unknown version the newest one."""
    return schema.nearest(version)[0]


def _render(service: Service, known: Schema) -> tuple[str, ...]:
    names = [service.served_name, *service.served_aliases]
    own: dict[str, FlagValue] = {
        "served-model-name": names,
        "host": "0.0.0.0",  # noqa: S104  (the Spark's own firewall decides who may connect)
        "port": service.port,
        "revision": service.weights.revision,
    }
    return args.render(service.weights.repo, {**own, **dict(service.flags)}, known)


def _not_switched(service: Service, known: Schema) -> dict[str, Diagnostic]:
    """Return switches with another value than true or false: vLLM would take it for a further argument."""
    found = {}
    for name, value in service.flags:
        flag = known.options.get(args.canonical(name, known))
        if flag is None or flag.takes_value or isinstance(value, bool):
            continue
        is_quoted = isinstance(value, str) and value.lower() in ("true", "false")
        hint = f"write {str(value).lower()} without quotes" if is_quoted else "write true or false"
        text = f"{flag.name} takes no value, and it has {value!r}"
        found[name] = Diagnostic(field_of(service, f"flags.{name}"), text, hint=hint, code="no-value-allowed")
    return found


def _field(service: Service, found: Diagnostic) -> str:
    """Return the field of the service that a finding of ``check`` is about."""
    flag, _, part = found.location.partition(" ")
    # An abbreviation is in the file as it was written, and its flag may be in the recipe, too.
    written = part if found.code == "abbreviation" else flag
    name = flag.removeprefix("--")
    names = (written.removeprefix("--"), name, name.removeprefix("no-"))
    key = part.partition(" ")[0].removeprefix(f"{flag}.")
    nested = [one for one, _ in service.flags if one.startswith(f"{name}.")]
    nested.sort(key=lambda one: one != f"{name}.{key}")
    return field_of(service, *(f"flags.{one}" for one in (*names, *nested)), f"env.{name}", "image")


def _measured(value: object) -> memory.Measured | None:
    return value if isinstance(value, memory.Measured) else None


def _fork(service: Service, image: ImageRef) -> Diagnostic:
    return Diagnostic(
        field_of(service, "image"),
        f"{image.repository} is a fork of vLLM with flags of its own: they are not checked here",
        hint="no action needed: the image's own parser checks them before the running engine stops",
        severity=Severity.INFO,
        code="engine-is-fork",
    )


def _other_release(service: Service, version: str, known: str) -> Diagnostic:
    """Return that another release's flags are checked; a warning for a version after all known ones."""
    is_newer = known == schema.versions()[-1]
    return Diagnostic(
        field_of(service, "image"),
        f"the flags of vLLM {version} are unknown here: they are checked against vLLM {known}",
        hint="no action needed: the image's own parser checks them before the running engine stops",
        severity=Severity.WARNING if is_newer else Severity.INFO,
        code="engine-release-unknown",
    )


def _check_version(service: Service, version: str) -> Iterator[Diagnostic]:
    try:
        fits = not service.requires_engine or Version(version) in SpecifierSet(
            service.requires_engine, prereleases=True
        )
    except (InvalidVersion, InvalidSpecifier):
        return
    if not fits:
        text = f"the recipe needs vLLM {service.requires_engine}, and {service.engine_source} has {version}"
        where = field_of(service, "image")
        yield Diagnostic(where, text, hint="choose a newer image", code="engine-too-old")


@functools.cache
def _rules() -> tuple[RuleInfo, ...]:
    own = tuple(
        RuleInfo(rule.id, rule.title, rule.source, needs_lock=rule.needs_lock) for rule in rules.RULES
    )
    external = rules.EXTERNAL_CHECKS.items()
    return (*own, *(RuleInfo(name, title, kept_by=keeper) for name, (title, keeper) in external))


ENGINE = Vllm()
