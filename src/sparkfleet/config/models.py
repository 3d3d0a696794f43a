"""What a user may write, as frozen pydantic models. One class a YAML shape; names are those of the YAML.

Values that several places may set are optional here: ``None`` means "not set here". What is set
nowhere comes from ``Defaults``. ``sparkfleet.config.merge`` folds them (built-in, recipe, group_data,
cluster, host file; last wins).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sparkfleet.config.base import HostPath, Model, PasswordSource, TokenSource
from sparkfleet.config.resource_models import PrepareSpec
from sparkfleet.contract.generation import DEFAULT_ENGINE

FlagValue = bool | int | float | str | list[Any] | dict[str, Any] | None
"""Value of a ``vllm serve`` flag: true = bare flag, false = its ``--no-`` form, null = take the flag away."""

EnvValue = str | int | float | bool | None
"""Value of a variable: true is 1, false is 0, null takes the variable away."""

_FLAGS = "Flags of the engine by name. true: the bare flag; false: its --no- form; null: not this flag."
_ENV = "Variables of the engine; null takes one away. No secrets."

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}$")]
Reason = Annotated[str, Field(min_length=1)]
Seconds = Annotated[int, Field(ge=1)]
Duration = Annotated[str, Field(pattern=r"^([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s?)?$", min_length=1)]
"""As 1h30m, 30m, 90s."""
ContainerPath = Annotated[str, Field(pattern=r"^/[^,:\s]+$")]
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
"""``organisation/name`` on the hub."""


class GateSpec(Model):
    """How it is proven that a service serves."""

    timeout: Duration | Seconds | None = Field(None, description="For the start: 30m, 1800s or seconds.")
    prompt: str | None = Field(None, description="A question with one short answer.")
    expect: str | None = Field(None, description="Text that the answer must contain.")


class MountSpec(Model):
    """A directory or file of the Spark inside the container."""

    source: HostPath = Field(description="Path on the Spark; ~ is the login user's home.")
    target: ContainerPath = Field(description="Absolute path in the container.")
    read_only: bool = Field(False, description="The container cannot write there.")


class ContainerSpec(Model):
    """Container settings beside image, command and environment; the defaults suit vLLM on a Spark."""

    # Each key has a row in runtimes/docker/settings.py: option, inspect path, compose key.

    network: Literal["host", "bridge"] | None = Field(
        None,
        description="host (default): the engine's port is the Spark's; bridge: only `port` is published.",
    )
    ipc: Literal["host", "private", "shareable"] | None = Field(
        None, description="host (default): the workers share the Spark's shared memory."
    )
    shm_size: str | None = Field(None, description="As 16g; has no meaning with ipc: host.")
    gpus: Literal["all", "none"] | None = Field(None, description="all (default): the Spark's one GPU.")
    user: str | None = Field(None, description="user[:group] inside the container; default: the image's own.")
    memory: str | None = Field(None, description="Hard limit, as 110g. Does not bound GPU memory on a Spark.")
    ulimits: dict[str, int] | None = Field(None, description="As memlock: -1.")
    devices: tuple[str, ...] | None = Field(None, description="As /dev/infiniband.")
    cap_add: tuple[str, ...] | None = Field(None, description="Linux capabilities, as IPC_LOCK.")
    mounts: tuple[MountSpec, ...] | None = Field(
        None, description="Beside those of models and compile cache; one a target."
    )


class Requirements(Model):
    """What a recipe asks of the Spark, the image or the user."""

    engine: str | None = Field(None, description="Version range of the engine, as >=0.17.1.")
    gated: bool = Field(False, description="The model repository needs an accepted licence and a token.")
    sparks: int = Field(1, ge=1, description="Least number of Sparks.")
    packages: dict[str, str] = Field(
        default_factory=dict,
        description="Python packages and version ranges; what the image lacks is added in a derived image.",
    )


class ModelInfo(Model):
    """What is known of a model, for catalog, memory estimate and notes."""

    parameters_b: float | None = Field(None, description="Billions of parameters.")
    active_b: float | None = Field(None, description="Billions of parameters that a token passes.")
    quantization: str | None = Field(None, description="Of the weights: nvfp4, fp8, mxfp4, bf16.")
    weights_gib: float | None = Field(None, description="Size of the weights (GiB), about.")
    context: int | None = Field(None, description="Native context length in tokens.")
    modalities: tuple[str, ...] = Field(("text",), description="What goes in: text, image, audio, video.")
    license: str | None = Field(None, description="Licence of the weights.")


class Recipe(Model):
    """A known-good deployment of one model."""

    recipe: Name = Field(description="Its name, and the name of its file.")
    title: str = Field(description="The model in words.")
    extends: Name | None = Field(
        None,
        description="Another recipe: what is not set here comes from there; flags, env, model_info by key.",
    )
    source: str = Field(description="Where the recipe comes from: document and section, or a URL.")
    confidence: Literal["tested", "documented", "derived"] = Field(
        "documented", description="tested on a Spark; documented by the source; derived from a similar one."
    )
    model: Repository | None = Field(
        None, description="Repository on the Hugging Face Hub; without one the host file names it."
    )
    revision: str | None = Field(None, description="Branch, tag or commit; default: the default branch.")
    engine: str | None = Field(None, description=f"Engine that serves it; default: {DEFAULT_ENGINE}.")
    file: str | None = Field(
        None,
        description="File of the repository, or a pattern, for engines that load one file: *Q4_K_M.gguf.",
    )
    image: str = Field(description="Image with tag; the digest comes from the lock file.")
    served_name: str | None = Field(None, description="Name of the model in the API; default: the service's.")
    flags: dict[str, FlagValue] = Field(default_factory=dict, description=_FLAGS)
    env: dict[str, str] = Field(default_factory=dict, description="Variables of the engine. No secrets.")
    container: ContainerSpec = Field(ContainerSpec(), description="Settings of the container.")
    gate: GateSpec = Field(GateSpec(), description="The proof that it serves.")
    requires: Requirements = Field(Requirements(), description="What must be there.")
    model_info: ModelInfo = Field(ModelInfo(), description="What is known of the model.")
    notes: tuple[str, ...] = Field((), description="What a user must know before.")


class ServiceSpec(Model):
    """One entry of ``serve:`` in a host file."""

    recipe: Name | None = Field(None, description="A recipe of the catalog, or of the fleet's recipes/.")
    model: Repository | None = Field(None, description="Another model repository than the recipe's.")
    name: Name | None = Field(None, description="Container, unit and default served model name.")
    engine: str | None = Field(
        None, description=f"Engine that serves it; default: the recipe's, else {DEFAULT_ENGINE}."
    )
    file: str | None = Field(
        None,
        description="File of the repository, or a pattern, for engines that load one file: *Q4_K_M.gguf.",
    )
    port: Port | None = Field(None, description="Default: first_port of group_data, then the next free one.")
    image: str | None = Field(
        None, description="registry/name:tag, or with @sha256:...; without a digest the lock file gives it."
    )
    revision: Revision | None = Field(
        None, description="Commit of the model repository; else the lock file's."
    )
    served_name: str | None = Field(None, description="Name of the model in the API; default: `name`.")
    flags: dict[str, FlagValue] = Field(default_factory=dict, description=_FLAGS)
    env: dict[str, EnvValue] = Field(default_factory=dict, description=_ENV)
    container: ContainerSpec = Field(ContainerSpec(), description="Settings of the container.")
    gate: GateSpec = Field(GateSpec(), description="The proof that it serves.")
    packages: dict[str, str | None] = Field(
        default_factory=dict,
        description='Python packages that the image shall have, with version ranges ("": any), over the '
        "recipe's `requires.packages`; null takes one away. What it lacks is added in a derived image.",
    )
    reserve_gib: float | None = Field(
        None, ge=0, description="Memory (GiB) kept for all but engines, while this service is here."
    )


class SshSpec(Model):
    """How to reach a Spark. Further keys of pyinfra's SSH connector go under ``options``."""

    hostname: str | None = Field(
        None, description="Default: the host file's name. @local: the machine it runs on."
    )
    port: Port | None = Field(None, description="Default: what ssh_config says, else 22.")
    user: str | None = Field(None, description="Login user; default: what ssh_config says.")
    key: str | None = Field(None, description="Path of the private key.")
    config_file: str | None = Field(None, description="Path of an ssh_config.")
    known_hosts_file: str | None = Field(None, description="Path of a known_hosts.")
    sudo_password: PasswordSource | None = Field(
        None,
        description="Where the login user's password for sudo comes from, if sudo asks for one: env:NAME, "
        "file:PATH, command:WORDS, or ask (once a run, on the terminal). Never the password. "
        "Default: group_data's.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further settings of pyinfra's SSH connector, without `ssh_`."
    )


class StageSpec(Model):
    """``stage`` in group_data: how images and weights reach a fleet."""

    seed: str = Field(
        "auto",
        description="Which Spark downloads for all that need the same: its name (what it does not need, "
        "another one downloads, and the plan says so); auto: the one that has the most of it already; none: "
        "each downloads for itself.",
    )
    parallel: int = Field(2, ge=1, le=16, description="How many Sparks one Spark sends to.")
    mirror: str = Field(
        "",
        description="Directory that `sparkfleet mirror` wrote, on the operator's machine: images and models "
        "that no Spark has are sent from there instead of being fetched from registry and hub.",
    )


class HostFile(Model):
    """``inventories/<fleet>/<host>.yaml``: what one Spark shall be."""

    ssh: SshSpec = Field(SshSpec(), description="How to reach it.")
    serve: Name | tuple[ServiceSpec, ...] | ServiceSpec | None = Field(
        None, description="A recipe's name, one service, or a list of services. Nothing: an idle Spark."
    )
    reserve_gib: float | None = Field(None, ge=0, description="Memory (GiB) kept for all but engines.")
    models_dir: HostPath | None = Field(None, description="Where models are; default: group_data's.")
    cache_dir: HostPath | None = Field(None, description="Where compile caches are; default: group_data's.")
    min_available_gib: float | None = Field(
        None, ge=0, description="MemAvailable (GiB) below which an engine is killed; default: group_data's."
    )
    prepare: PrepareSpec = Field(PrepareSpec(), description="What is made of the Spark itself.")
    ignore_rules: dict[str, Reason] = Field(
        default_factory=dict, description="Rule id -> why it does not apply here."
    )


class FabricSpec(Model):
    """``fabric:`` of a cluster file: the QSFP links between its Sparks."""

    network: str | None = Field(
        None, description="Where the links' addresses come from: one /24 a rail. Default: 192.168.176.0/20."
    )
    mtu: int | None = Field(None, ge=1280, le=9978, description="Of the links. Default: 9000.")
    rendezvous: Literal["fabric", "management"] | None = Field(
        None, description="Over which links the ranks find each other: fabric (default) or management."
    )
    tcp: bool | None = Field(
        None, description="true: NCCL may use plain TCP where RDMA does not work. Default: that is an error."
    )
    ring: bool | None = Field(
        None,
        description="true: three Sparks without a switch, port p0 of each cabled to port p1 of the next in "
        "'hosts'. Default: two Sparks at one cable, or more at a switch.",
    )


class ClusterFile(Model):
    """``inventories/<fleet>/clusters/<name>.yaml``: Sparks that serve one model together."""

    hosts: tuple[str, ...] = Field(
        description="Names of host files, two or more; each Spark in one cluster. The first is the head."
    )
    executor: Literal["ray", "mp"] = Field(
        "ray", description="ray: head and workers of a Ray cluster; mp: the engine's own multi-node mode."
    )
    serve: Name | ServiceSpec | None = Field(
        None,
        description="A recipe's name, or one service. Unless its flags have tensor-parallel-size, "
        "pipeline-parallel-size or data-parallel-size, the first of them becomes the number of Sparks.",
    )
    fabric: FabricSpec = Field(FabricSpec(), description="The links between the Sparks.")


class RegistryMirror(Model):
    """Another address for a registry, with its own certificate authority."""

    url: str = Field(description="As https://registry.example:5000.")
    ca_file: str | None = Field(None, description="Certificate authority (PEM) on the operator's machine.")


class PackageIndexSpec(Model):
    """``python_packages`` in group_data: where wheels for derived images come from, and what they are for."""

    index: str | None = Field(
        None,
        description="URL of a package index; default: what pip on this machine uses. The Sparks fetch the "
        "locked wheels from where it has them.",
    )
    python: str = Field("3.12", pattern=r"^3\.[0-9]+$", description="Version of Python in the images.")
    machine: Literal["aarch64", "x86_64"] = Field("aarch64", description="Machine of the images.")


class Defaults(Model):
    """``sparkfleet = {...}`` in group_data: fleet-wide settings. The values here are the built-in ones."""

    reserve_gib: float = Field(12, ge=0, description="Memory (GiB) kept for all but engines.")
    models_dir: HostPath = Field("~/vllm", description="Where models are, as a Hugging Face home.")
    cache_dir: HostPath = Field("~/vllm-compile-cache", description="Where compile caches are.")
    min_available_gib: float = Field(
        2, ge=0, description="MemAvailable (GiB) below which an engine is killed."
    )
    hf_endpoint: str | None = Field(None, description="Another hub; HF_ENDPOINT of the operator otherwise.")
    hf_token: TokenSource | None = Field(
        None, description="Where the token comes from: env:NAME, file:PATH or command:WORDS. Never the token."
    )
    sudo_password: PasswordSource = Field(
        "env:SPARKFLEET_SUDO_PASSWORD",
        description="Where the password for sudo comes from, as in a host file. Where it gives nothing, sudo "
        "must not ask.",
    )
    registries: dict[str, RegistryMirror] = Field(
        default_factory=dict, description="Registry's name -> its mirror, for `sparkfleet lock`."
    )
    python_packages: PackageIndexSpec = Field(
        PackageIndexSpec(), description="Where Python packages that images lack come from."
    )
    first_port: Port = Field(8000, description="Port of a Spark's first service without one of its own.")
    flags: dict[str, FlagValue] = Field(default_factory=dict, description=_FLAGS)
    env: dict[str, EnvValue] = Field(default_factory=dict, description=_ENV)
    container: ContainerSpec = Field(ContainerSpec(), description="Settings of every container.")
    gate: GateSpec = Field(GateSpec(), description="The proof that a service serves.")
    prepare: PrepareSpec = Field(PrepareSpec(), description="What is made of every Spark itself.")
    stage: StageSpec = Field(StageSpec(), description="How images and weights reach the Sparks.")
    ignore_rules: dict[str, Reason] = Field(
        default_factory=dict, description="Rule id -> why it does not apply here."
    )
