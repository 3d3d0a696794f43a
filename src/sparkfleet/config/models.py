"""Pydantic models of the YAML files, one class per mapping, with the names of the keys.

``None`` means "not set here"; ``Defaults`` has the built-in values. ``sparkfleet.config.merge`` merges them
(built-in, recipe, group_data, cluster, host file; the last one wins).
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from pydantic import Field, create_model

from sparkfleet import engines, runtimes
from sparkfleet.config.base import HostPath, Model, PasswordSource, TokenSource
from sparkfleet.config.resource_models import PrepareSpec, annotation
from sparkfleet.desired_state import FlagValue
from sparkfleet.engines.base import TOTAL_GIB
from sparkfleet.runtimes import Container

EnvValue = str | int | float | bool | None
"""Value of a variable: true is 1, false is 0, null removes the variable."""

_FLAGS = "Engine flags by name. true: the bare flag; false: its --no- form; null: remove the flag."
_ENV = "Environment variables of the engine; null removes one. No secrets."

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}$")]
Reason = Annotated[str, Field(min_length=1)]
Seconds = Annotated[int, Field(ge=1)]
Link = Annotated[str, Field(pattern=r"^https://[^\s<>()\[\]]+$")]
Duration = Annotated[str, Field(pattern=r"^([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s?)?$", min_length=1)]
"""As 1h30m, 30m, 90s."""
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
"""``organisation/name`` on the hub."""

ImageName = Annotated[str, Field(min_length=1)]
ServedName = Annotated[str, Field(pattern=r"^([^{}]|\{name\}|\{model\})+$")]
ServedNames = ServedName | Annotated[tuple[ServedName, ...], Field(min_length=1)]
_SERVED = (
    "Name of the model in the API, or a list of its names: the readiness gate requires all of them, and "
    "requests an answer under the first. {name} is the default, {model} the model's repository."
)


class GateSpec(Model):
    """The readiness gate: the check that a service answers."""

    timeout: Duration | Seconds | None = Field(
        None, description="Limit for the start: 30m, 1800s or a number of seconds."
    )
    prompt: str | None = Field(None, description="Test prompt with one short, known answer.")
    expect: str | None = Field(None, description="Text that the response must contain.")
    task: Literal["chat", "completion", "embedding", "rerank", "score", "transcription"] | None = Field(
        None, description="Kind of request that must succeed; default: chat."
    )
    expect_dimensions: int | None = Field(
        None, ge=1, description="Length of the vector that `task: embedding` must return."
    )


def _container_model() -> type[Model]:
    hints = get_type_hints(Container, include_extras=True)
    members: dict[str, Any] = {}
    for one in fields(Container):
        description, default = one.metadata["description"], one.default
        if description.startswith(f"{default}: "):
            description = description.replace(":", " (default):", 1)
        elif description and default not in ("", (), None, MISSING):
            description += f" Default: {default}."
        if description:
            members[one.name] = (annotation(hints[one.name]) | None, Field(None, description=description))
    text = "Container settings; the defaults suit an engine on a Spark."
    return create_model("ContainerSpec", __base__=Model, __doc__=text, **members)


if TYPE_CHECKING:
    ContainerSpec = Model
else:
    ContainerSpec = _container_model()


class Requirements(Model):
    """Requirements of a recipe on the Spark, the image and the user."""

    engine: str | None = Field(None, description="Version range of the engine, for example >=0.17.1.")
    gated: bool = Field(False, description="The model repository requires an accepted licence and a token.")
    sparks: int = Field(1, ge=1, description="Minimum number of Sparks.")
    packages: dict[str, str] = Field(
        default_factory=dict,
        description="Python packages and version ranges; missing ones are added in a derived image.",
    )


class ModelInfo(Model):
    """Facts about a model, for catalog, memory estimate and notes."""

    parameters_b: float | None = Field(None, description="Billions of parameters.")
    active_b: float | None = Field(None, description="Active parameters per token, in billions.")
    quantization: str | None = Field(
        None, description="Quantization of the weights: nvfp4, fp8, mxfp4, bf16."
    )
    weights_gib: float | None = Field(None, description="Approximate size of the weights (GiB).")
    context: int | None = Field(None, description="Native context length in tokens.")
    modalities: tuple[str, ...] = Field(("text",), description="Input modalities: text, image, audio, video.")
    license: str | None = Field(None, description="Licence of the weights.")


class Recipe(Model):
    """A known-good deployment of one model."""

    recipe: Name = Field(description="Name of the recipe; equals the file name.")
    title: str = Field(description="Human-readable title.")
    extends: Name | None = Field(
        None,
        description="Base recipe for values that are not set here; flags, env and model_info merge by key.",
    )
    source: str = Field(description="Source of the recipe: document and section, or measurement and date.")
    links: tuple[Link, ...] = Field(
        (), description="Public pages of the source; inherited only together with `source`."
    )
    status: Literal["tested", "documented", "derived"] = Field(
        "documented", description="tested on a Spark; documented by the source; derived from a similar one."
    )
    limitations: tuple[Reason, ...] = Field(
        (),
        description="What does not work or is not proven, one sentence each; a plan shows them.",
    )
    model: Repository | None = Field(
        None, description="Repository on the Hugging Face Hub; if unset, the host file sets it."
    )
    revision: str | None = Field(None, description="Branch, tag or commit; default: the default branch.")
    engine: str | None = Field(None, description=f"Engine that serves the model; default: {engines.DEFAULT}.")
    file: str | None = Field(
        None,
        description="File name or pattern in the repository, for engines that load one file: *Q4_K_M.gguf.",
    )
    image: str | None = Field(
        None, description="Image with a tag, for runtimes with images; the lock file pins the digest."
    )
    served_name: ServedNames | None = Field(
        None,
        description=f"{_SERVED} Default: the service name.",
    )
    flags: dict[str, FlagValue] = Field(default_factory=dict, description=_FLAGS)
    env: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of the engine. No secrets."
    )
    container: ContainerSpec = Field(ContainerSpec(), description="Container settings.")
    gate: GateSpec = Field(GateSpec(), description="Readiness gate.")
    requires: Requirements = Field(Requirements(), description="Requirements.")
    model_info: ModelInfo = Field(ModelInfo(), description="Facts about the model.")
    notes: tuple[str, ...] = Field((), description="Notes for users.")


class ServiceSpec(Model):
    """One entry of ``serve:`` in a host file."""

    recipe: Name | None = Field(None, description="A recipe from the catalog or from the fleet's recipes/.")
    model: Repository | None = Field(None, description="Model repository; overrides the recipe's.")
    name: Name | None = Field(
        None, description="Service name: used for the container, the unit and, by default, the served model."
    )
    engine: str | None = Field(
        None, description=f"Engine that serves the model; default: the recipe's, else {engines.DEFAULT}."
    )
    runtime: str | None = Field(
        None, description=f"Runtime that contains the engine's process; default: {runtimes.DEFAULT}."
    )
    file: str | None = Field(
        None,
        description="File name or pattern in the repository, for engines that load one file: *Q4_K_M.gguf.",
    )
    port: Port | None = Field(
        None, description="TCP port of the API. Default: first_port of group_data, then the next free one."
    )
    image: str | None = Field(
        None,
        description="registry/name:tag, or with @sha256:...; the lock file pins the digest of a tag. For "
        "runtimes with images (docker).",
    )
    revision: Revision | None = Field(
        None, description="Commit of the model repository; default: the locked commit."
    )
    served_name: ServedNames | None = Field(
        None,
        description=f"{_SERVED} Default: group_data's, else `name`, else the recipe's.",
    )
    flags: dict[str, FlagValue] = Field(default_factory=dict, description=_FLAGS)
    env: dict[str, EnvValue] = Field(default_factory=dict, description=_ENV)
    container: ContainerSpec = Field(ContainerSpec(), description="Container settings.")
    gate: GateSpec = Field(GateSpec(), description="Readiness gate.")
    packages: dict[str, str | None] = Field(
        default_factory=dict,
        description='Python packages that the service needs, with version ranges ("": any). Merged over the '
        "recipe's `requires.packages`; null removes one. Missing packages are added in a derived image.",
    )
    reserve_gib: float | None = Field(
        None,
        ge=0,
        description="Memory reserved for the OS and other processes (GiB) while this service is declared.",
    )


class SshSpec(Model):
    """How to reach a Spark. Further keys of pyinfra's SSH connector go under ``options``."""

    hostname: str | None = Field(
        None, description="Default: the host file's name. @local: the machine that sparkfleet runs on."
    )
    port: Port | None = Field(None, description="Default: from ssh_config, else 22.")
    user: str | None = Field(None, description="Login user; default: from ssh_config.")
    key: str | None = Field(None, description="Path of the private key.")
    config_file: str | None = Field(None, description="Path of an ssh_config file.")
    known_hosts_file: str | None = Field(None, description="Path of a known_hosts file.")
    sudo_password: PasswordSource | None = Field(
        None,
        description="Source of the login user's sudo password, if sudo needs one: env:NAME, "
        "file:PATH, command:COMMAND, or ask (prompt once per run). Never the password itself. "
        "Default: group_data's.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further settings of pyinfra's SSH connector, without `ssh_`."
    )


class StageSpec(Model):
    """``stage`` in group_data: how images and weights reach a fleet."""

    seed: str = Field(
        "auto",
        description="The Spark that downloads and sends to the others: a host name (what it does not need is "
        "downloaded by another Spark, as the plan shows); auto: the one that has the most already; none: "
        "each Spark downloads for itself.",
    )
    parallel: int = Field(
        2, ge=1, le=16, description="Number of Sparks that one Spark sends to at the same time."
    )
    mirror: str = Field(
        "",
        description="Directory written by `sparkfleet mirror` on the operator's machine: images and models "
        "that no Spark has are sent from it instead of being downloaded from registry and hub.",
    )


class HostFile(Model):
    """``inventories/<fleet>/<host>.yaml``: the desired state of one Spark."""

    ssh: SshSpec = Field(SshSpec(), description="SSH connection.")
    serve: Name | tuple[ServiceSpec, ...] | ServiceSpec | None = Field(
        None, description="A recipe name, one service, or a list of services. null: an idle Spark."
    )
    reserve_gib: float | None = Field(
        None,
        ge=0,
        description="Memory reserved for the OS and other processes (GiB), for example engines that "
        "sparkfleet does not manage.",
    )
    memory_gib: float | None = Field(
        None,
        gt=0,
        description="Memory of the Spark (GiB, MemTotal) for `sparkfleet check`, which contacts no Spark. "
        f"Default: {TOTAL_GIB:g} is assumed. A plan reads it from the Spark.",
    )
    models_dir: HostPath | None = Field(None, description="Model directory; default: from group_data.")
    cache_dir: HostPath | None = Field(
        None, description="Directory of compile caches; default: from group_data."
    )
    min_available_gib: float | None = Field(
        None,
        ge=0,
        description="MemAvailable (GiB) below which the watchdog stops an engine; default: from group_data.",
    )
    prepare: PrepareSpec = Field(PrepareSpec(), description="Host state of the Spark.")
    ignore_rules: dict[str, Reason] = Field(
        default_factory=dict, description="Lint rule id -> reason why it is ignored."
    )


class FabricSpec(Model):
    """``fabric:`` of a cluster file: the QSFP links between its Sparks."""

    network: str | None = Field(
        None,
        description="Network for the addresses of the links, one /24 per rail. Default: 192.168.176.0/20.",
    )
    mtu: int | None = Field(None, ge=1280, le=9978, description="MTU of the links. Default: 9000.")
    rendezvous: Literal["fabric", "management"] | None = Field(
        None, description="Network for the rendezvous of the ranks: fabric (default) or management."
    )
    tcp: bool | None = Field(
        None, description="true: NCCL may use plain TCP where RDMA does not work. Default: that is an error."
    )
    ring: bool | None = Field(
        None,
        description="true: three Sparks without a switch, port p0 of each cabled to port p1 of the next in "
        "'hosts'. Default: two Sparks on one cable, or any number on a switch.",
    )


class ClusterFile(Model):
    """``inventories/<fleet>/clusters/<name>.yaml``: Sparks that serve one model."""

    hosts: tuple[str, ...] = Field(
        description="Host names, two or more; a host is in at most one cluster. The first is the head."
    )
    executor: engines.Executor = Field(engines.EXECUTOR, description=engines.EXECUTORS)
    serve: Name | ServiceSpec | None = Field(
        None,
        description="A recipe name or one service. tensor-parallel-size defaults to the number of Sparks "
        "unless a flag sets tensor-, pipeline- or data-parallel-size.",
    )
    fabric: FabricSpec = Field(FabricSpec(), description="Links between the Sparks.")


class RegistryMirror(Model):
    """A mirror of a registry, optionally with its own certificate authority."""

    url: str = Field(description="For example https://registry.example:5000.")
    ca_file: str | None = Field(None, description="Certificate authority (PEM) on the operator's machine.")


class PackageIndexSpec(Model):
    """``python_packages`` in group_data: the source of wheels for derived images."""

    index: str | None = Field(
        None,
        description="URL of a package index; default: the operator's pip configuration. The Sparks download "
        "the locked wheels from the URLs that it lists.",
    )
    python: str = Field("3.12", pattern=r"^3\.[0-9]+$", description="Python version in the images.")
    machine: Literal["aarch64", "x86_64"] = Field("aarch64", description="CPU architecture of the images.")


class Defaults(Model):
    """``sparkfleet = {...}`` in group_data: fleet-wide settings. The values here are the built-in ones."""

    reserve_gib: float = Field(12, ge=0, description="Memory reserved for the OS and other processes (GiB).")
    models_dir: HostPath = Field(engines.MODELS_DIR, description="Model directory, laid out as HF_HOME.")
    cache_dir: HostPath = Field(engines.CACHE_DIR, description="Directory of compile caches.")
    min_available_gib: float = Field(
        2, ge=0, description="MemAvailable (GiB) below which the watchdog stops an engine."
    )
    hf_endpoint: str | None = Field(None, description="URL of the hub; default: the operator's HF_ENDPOINT.")
    hf_token: TokenSource | None = Field(
        None,
        description="Source of the token: env:NAME, file:PATH or command:COMMAND. Never the token itself.",
    )
    sudo_password: PasswordSource = Field(
        "env:SPARKFLEET_SUDO_PASSWORD",
        description="Source of the sudo password, as in a host file. If it is empty, sudo "
        "must not ask for a password.",
    )
    registries: dict[str, RegistryMirror] = Field(
        default_factory=dict, description="Registry -> its mirror, for `sparkfleet lock`."
    )
    python_packages: PackageIndexSpec = Field(
        PackageIndexSpec(), description="Source of Python packages for derived images."
    )
    first_port: Port = Field(8000, description="Port of the first service that sets none.")
    image: dict[str, ImageName | Annotated[tuple[ImageName, ...], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Engine -> its image, or a list of images. Each replaces a recipe's image from the same "
        "repository; the first is that of services without any. A service's own `image` takes precedence.",
    )
    served_name: ServedNames | None = Field(
        None,
        description='Names of every service that sets none, for example ["{name}", "{model}"]. {name} is '
        "what it would be called without this setting, {model} the model's repository.",
    )
    flags: dict[str, FlagValue] = Field(default_factory=dict, description=_FLAGS)
    env: dict[str, EnvValue] = Field(default_factory=dict, description=_ENV)
    container: ContainerSpec = Field(ContainerSpec(), description="Container settings of every service.")
    gate: GateSpec = Field(GateSpec(), description="Readiness gate of every service.")
    prepare: PrepareSpec = Field(PrepareSpec(), description="Host state of every Spark.")
    stage: StageSpec = Field(StageSpec(), description="Distribution of images and weights.")
    ignore_rules: dict[str, Reason] = Field(
        default_factory=dict, description="Lint rule id -> reason why it is ignored."
    )
