"""An engine on the operator's side.

An engine's ``engine.py`` subclasses ``Engine`` and assigns an instance to ``ENGINE``. Methods with a body are
defaults for engines that lack the feature. Pure: only ``ArgChecker.keep`` writes, into the operator's cache.
What programs on a Spark need is ``host.HostEngine``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.generation import Task

if TYPE_CHECKING:
    from sparkfleet.desired_state import FlagValue, Host, ImageRef, Service, WeightFile

Packages = tuple[tuple[str, str], ...]
"""Python packages and version ranges ("": any)."""

GIB = 2**30
TOTAL_GIB = 119.7
"""MemTotal of a GB10 under older DGX OS; newer ones show 121.6, and there are Sparks of 64 GB. Assumed for a
host that is neither probed nor declares it."""


def total_memory(host: Host) -> float:
    """Return the memory that a host file declares (GiB), else what is assumed."""
    return host.memory_gib or TOTAL_GIB


SERVICE = "service"
"""``location`` of a diagnostic about a service as a whole."""


class ModelFilesError(SparkfleetError):
    """A repository lacks the files that a service needs; the message says what it has instead."""

    def __init__(self, found: str, hint: str) -> None:
        """Build the diagnostic; its location is left to the caller."""
        super().__init__(Diagnostic("", found, hint=hint, code="lock-model-unresolved"))


def field_of(service: Service, *names: str) -> str:
    """Return the first of the fields (``flags.max-model-len``, ``env.X``, ``image``) that a file declares.

    SERVICE if there is none. It is the ``location`` of a diagnostic of ``Engine.check``.
    """
    declared = dict(service.origin)
    return next((name for name in names if name in declared), SERVICE)


def value_text(value: Any) -> str:
    """Return a flag's value as a word of a command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | list | dict):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return str(value)


@dataclass(frozen=True)
class ParsedArgs:
    """An engine's command line by meaning."""

    model: str
    revision: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Canonical flag (``--max-model-len``) -> typed value."""


@dataclass(frozen=True)
class FlagChange:
    """One flag that differs; None on a side without it."""

    flag: str
    """Canonical long name; ``model`` for the model itself."""
    old: str | None
    new: str | None
    """If both are JSON, only the keys that differ: ``num_speculative_tokens=3``."""


@dataclass(frozen=True)
class ImageBase:
    """What a release of an image was built for, by its name."""

    cuda: str
    driver: str = ""
    """The oldest GPU driver that needs no forward compatibility; "" if unknown."""


@dataclass(frozen=True)
class RuleInfo:
    """One rule for `sparkfleet rules`."""

    id: str
    title: str
    source: str = ""
    kept_by: str = "check"
    needs_lock: bool = False
    """Whether it applies only to services that were resolved with a lock file."""


@dataclass(frozen=True)
class Footprints:
    """What other tools for an engine leave on a Spark. The preflight reports it."""

    programs: tuple[str, ...] = ()
    """Words in a systemd unit, a sudo rule or a container that start the engine."""
    in_containers: tuple[str, ...] = ()
    """Further words of that kind in a container's name, image or command."""
    directories: tuple[str, ...] = ()
    netplan_files: Mapping[str, str] = field(default_factory=dict)
    """File name -> the tool that writes it."""


@dataclass(frozen=True)
class ExtraModel:
    """A further repository that a flag names: a drafter, a LoRA adapter."""

    flag: str
    repo: str
    revision: str = ""


@dataclass(frozen=True)
class ArgCheck:
    """Result of the image's own parser for args."""

    ok: bool | None
    """None: the parser could not run; the args are neither accepted nor rejected."""
    error: str = ""
    version: str = ""
    """Engine version that the image reports."""


class ArgChecker(Protocol):
    """A program that runs in the image, with its interpreter, and calls the engine's own parser."""

    interpreter: str
    """Run as ``INTERPRETER - ARGS`` with ``program`` on stdin, without network."""
    timeout_s: int

    def program(self) -> str:
        """Return the program's text."""
        ...

    def check_args(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return the program's args for a check of ``argv``."""
        ...

    def read_check(self, output: str) -> ArgCheck:
        """Return the result from the program's output for ``check_args``."""
        ...

    def describe(self) -> tuple[str, ...]:
        """Return the program's args for a description of all flags."""
        ...

    def is_kept(self, image: str) -> bool:
        """Return whether the flags of the image (by digest) are in the operator's cache."""
        ...

    def keep(self, image: str, output: str) -> None:
        """Cache the program's output for ``describe``. ``ValueError`` if it is no description."""
        ...


@dataclass(frozen=True)
class Rank:
    """One rank of a cluster, as an engine needs it to start there."""

    number: int
    """0 is the head, which answers."""
    executor: str
    """From the cluster file (``engines.Executor``)."""
    hosts: tuple[str, ...]
    """Names of the Sparks by rank."""
    addresses: tuple[str, ...]
    """Their addresses on the fabric by rank."""
    has_links: bool = True
    """False: this Spark's links are not known yet."""


class ClusterEngine(Protocol):
    """How an engine serves one model over several Sparks."""

    reserved_flags: Mapping[str, str]
    """Flags that come from the cluster file -> what to write instead."""
    address_env: str = ""
    """Variable with this Spark's own address; "": the engine needs none."""
    shared_caches: tuple[str, ...] = ()
    """Directories in the compile cache that are removed before a start: they must be equal on all ranks."""

    def packages(self, executor: str) -> Mapping[str, str]:
        """Return Python packages that the image must have, with version ranges."""
        ...

    def split(
        self, flags: Mapping[str, FlagValue], written: frozenset[str], sparks: int
    ) -> Mapping[str, FlagValue]:
        """Return flags that split the model over the Sparks; none if the file sets them.

        ``flags`` are all of the service, ``written`` the names of those in the cluster file.
        """
        ...

    def diagnostics(self, service: Service, sparks: int) -> list[Diagnostic]:
        """Return what does not fit between flags, number of Sparks and model."""
        ...

    def flags(self, rank: Rank) -> Mapping[str, FlagValue]:
        """Return the flags that make the service this rank."""
        ...

    def environment(self, rank: Rank) -> Mapping[str, str]:
        """Return the variables of this rank, on top of ``address_env`` and those of NCCL."""
        ...

    def entrypoint(self, rank: Rank, image: ImageRef) -> str:
        """Return the ``--entrypoint`` that the rank's container needs; "": the image's own."""
        ...

    def command(self, rank: Rank, entrypoint: str, serve: tuple[str, ...]) -> tuple[str, ...]:
        """Return the rank's command; ``serve`` is what a single Spark would run."""
        ...


class Engine(Protocol):
    """All that is particular to one engine, on the operator's side."""

    name: str
    """Name of the folder, and in YAML: ``engine: vllm``."""
    title: str
    """As its makers write it: ``vLLM``."""
    reserved_flags: Mapping[str, str]
    """Flags that sparkfleet renders itself -> what to write instead."""
    secret_flags: frozenset[str] = frozenset()
    secret_env: frozenset[str] = frozenset()
    repository_flags: frozenset[str] = frozenset()
    """Flags whose value may name another repository, which an offline engine cannot fetch."""
    shown_flags: Mapping[str, str] = {}
    """Canonical flags that the plan shows under a name of their own: ``--port`` -> ``port``."""
    model_flags: frozenset[str] = frozenset({"model", "--revision"})
    """Canonical flags for model and commit: the plan shows them as ``model``."""
    entrypoint_hint: str
    """Images that can serve, for an error: ``an image whose entrypoint is empty, a wrapper, or ...``."""
    weights_hint: str
    """Weights that it loads, for an error: ``safetensors, or .bin``."""
    takes_file: bool = False
    """Whether a service names the file of the repository (``file:``): one model is in several files there."""
    takes_aliases: bool = False
    """Whether the API can have several names for the model: ``HostEngine.served_names`` reads them."""
    hub_client: str = "hf"
    """Command of the hub's client in the engine's images; "": none."""
    tasks: frozenset[Task] = frozenset({Task.CHAT})
    """Tasks that the readiness gate can request (``HostEngine.answer_requests``)."""
    cluster: ClusterEngine | None = None
    """None: it serves on single Sparks only."""
    footprints: Footprints = Footprints()
    arg_checker: ArgChecker | None = None
    """None: the image has no parser that can be called; the gate decides."""
    rule_sources: Mapping[str, str] = {}
    """Short names in the sources of rules -> title and address."""

    def load_data(self) -> None:
        """Read all data files of the engine's folder (``data_files.read``); raise for one that is invalid."""
        return

    # Images

    def image_version(
        self, image: ImageRef, env: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None
    ) -> str:
        """Return the version in an image by its variables and labels, else by its name; "" if unknown."""
        ...

    def image_base(self, image: ImageRef) -> ImageBase | None:
        """Return the CUDA and the driver that an image was built for, by its name; None if unknown."""
        del image
        return None

    def command_prefix(self, entrypoint: Sequence[str]) -> tuple[str, ...] | None:
        """Return what precedes the args so that the entrypoint starts the server; None: it cannot."""
        ...

    def args_of(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return the engine's args of a container's whole argv; all of it where the engine is not found."""
        ...

    def image_packages(self, version: str) -> Mapping[str, str]:
        """Return Python packages that images of this version surely have, with version ranges."""
        del version
        return {}

    def lacking_packages(self, required: Packages, version: str) -> Packages:
        """Return the required packages that images of this version do not surely have."""
        del version
        return tuple(required)

    # Args and environment

    def full_flag(self, name: str, value: FlagValue) -> tuple[str, FlagValue]:
        """Return a flag under its full name (``tp``: ``tensor-parallel-size``), without leading dashes."""
        return name, value

    def flag_names(self) -> Iterable[str]:
        """Return all flags (``--max-model-len``) and variables of the bundled releases."""
        return ()

    def flag_facts(self, name: str) -> Mapping[str, str]:
        """Return what is known of a flag or variable: label -> text; empty if no bundled release has it.

        The label "" stands for a description.
        """
        del name
        return {}

    def args(self, service: Service) -> tuple[str, ...]:
        """Return the engine's args: model, port, name, revision, then the service's flags."""
        ...

    def parse_args(self, args: Sequence[str], version: str) -> ParsedArgs:
        """Return what args mean. Never raises: what cannot be read stays text."""
        ...

    def compare_args(self, old: Sequence[str], new: Sequence[str], version: str) -> tuple[FlagChange, ...]:
        """Return what differs by meaning: order, spelling and defaults are no difference."""
        ...

    def environment(self, models: str, cache: str) -> Mapping[str, str]:
        """Return the container's variables for these directories in the container; the user's come on top."""
        ...

    # Model

    def model_files(self, files: Iterable[WeightFile], pattern: str = "") -> tuple[WeightFile, ...]:
        """Return the files of a repository that the engine loads, by path; empty: no weights for it.

        ``pattern`` is the service's ``file:``, for repositories with one model in several files or formats;
        ModelFilesError if it matches none or several models.
        """
        ...

    header_bytes: int = 0
    """How many of the first bytes of a model file ``model_config`` needs; 0: it has no use for them."""

    def model_config(self, header: bytes) -> Mapping[str, Any]:
        """Return the model's dimensions by the keys of a ``config.json``, for repositories without one."""
        del header
        return {}

    def extra_models(self, flags: Mapping[str, Any]) -> tuple[ExtraModel, ...]:
        """Return further repositories that flags name."""
        del flags
        return ()

    def pin_extra_models(
        self, flags: Mapping[str, FlagValue], revisions: Mapping[str, str]
    ) -> Mapping[str, FlagValue]:
        """Return the flags with the commits of ``extra_models``, by repository."""
        del revisions
        return flags

    def is_speculative(self, flags: Mapping[str, Any]) -> bool:
        """Return whether flags declare speculative decoding: the gate then expects accepted draft tokens."""
        del flags
        return False

    # Checks

    def check(
        self, service: Service, host: Host, *, total_gib: float | None = None, measured: object = None
    ) -> tuple[Diagnostic, ...]:
        """Return what is wrong with a service: flags and variables against the image's version, and rules.

        ``location`` is a field of the service (``field_of``): equal services of many hosts are checked once.
        ``total_gib``: the Spark's memory where it was read; ``measured``: what ``measured`` returned.
        An engine without a list of flags reports that as an info.
        """
        ...

    def rules(self) -> tuple[RuleInfo, ...]:
        """Return the rules that ``check`` and other parts apply."""
        return ()

    def upgrade_notes(
        self, old: ImageRef, new: ImageRef, services: Iterable[Service]
    ) -> Sequence[str] | None:
        """Return the effects of another image on services; None: the content of an image is unknown."""
        del old, new, services
        return None

    # Memory

    def memory_gib(self, service: Service, total_gib: float) -> float:
        """Return the least memory that the engine uses (GiB); 0 if the weights are not locked."""
        share = self.memory_share(dict(service.flags))
        return service.weights.size / GIB if share is None else share * total_gib

    def required_gib(self, service: Service) -> float:
        """Return the memory of a Spark without which the engine cannot load the model (GiB); 0: unknown.

        A rollout without it is refused, so this is less than ``memory_gib``, which the engine may use.
        """
        del service
        return 0.0

    def memory_share(self, flags: Mapping[str, Any]) -> float | None:
        """Return the share of the Spark's memory that the engine reserves at its start; None: no share."""
        del flags
        return None

    def memory_estimate(
        self, service: Service, host: Host, *, total_gib: float, measured: object = None
    ) -> str:
        """Return the estimate as the plan shows it; "" when the weights' size is not known."""
        del service, host, total_gib, measured
        return ""

    def measured(self, service: Service, argv: Sequence[str], log: str, total_gib: float) -> object:
        """Return the memory figures that an engine with ``argv`` logged; None if there are none."""
        del service, argv, log, total_gib
        return None
