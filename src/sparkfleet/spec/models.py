"""What a user may write, as frozen pydantic models. One class a YAML shape; names are those of the YAML.

Values that more than one place may set are optional here: ``None`` means "not said here". What is left
unsaid everywhere comes from ``Defaults``. ``sparkfleet.spec.merge`` folds them: built-in, recipe, group_data,
cluster, host file; last wins.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FlagValue = bool | int | float | str | list[Any] | dict[str, Any] | None
"""Value of a ``vllm serve`` flag: true = bare flag, false = its ``--no-`` form, null = take the flag away."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}$")]
Seconds = Annotated[int, Field(ge=1)]
Duration = Annotated[str, Field(pattern=r"^([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s?)?$", min_length=1)]
"""As 1h30m, 30m, 90s."""
HostPath = Annotated[str, Field(pattern=r"^(~|/)[^,:\s]*$")]
"""Absolute or below ``~``; without the characters that docker's mount syntax gives a meaning."""
ContainerPath = Annotated[str, Field(pattern=r"^/[^,:\s]+$")]
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
"""``organisation/name`` on the hub."""
TokenSource = Annotated[str, Field(pattern=r"^(env:[A-Za-z_]\w*|file:.+|command:.+)$")]


class Model(BaseModel):
    """Base: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GateSpec(Model):
    """How it is proven that a service serves."""

    timeout: Duration | Seconds | None = Field(None, description="For the start: 30m, 1800s or seconds.")
    prompt: str | None = Field(None, description="A question with one short answer.")
    expect: str | None = Field(None, description="Text that the answer must contain.")


class MountSpec(Model):
    """A directory or file of the Spark inside the container."""

    source: HostPath = Field(description="Path on the Spark; ~ is the login user's home.")
    target: ContainerPath = Field(description="Absolute path in the container.")
    read_only: bool = False


class ContainerSpec(Model):
    """Container settings beside image, command and environment; the defaults suit vLLM on a Spark."""

    network: Literal["host", "bridge"] | None = None
    ipc: Literal["host", "private", "shareable"] | None = None
    shm_size: str | None = Field(None, description="As 16g; has no meaning with ipc: host.")
    gpus: Literal["all", "none"] | None = None
    user: str | None = Field(None, description="user[:group] inside the container; default: the image's own.")
    memory: str | None = Field(None, description="Hard limit, as 110g. Does not bound GPU memory on a Spark.")
    ulimits: dict[str, int] | None = Field(None, description="As memlock: -1.")
    devices: tuple[str, ...] | None = None
    cap_add: tuple[str, ...] | None = None
    mounts: tuple[MountSpec, ...] | None = None


class Needs(Model):
    """What a recipe asks of the Spark, the image or the user."""

    vllm: str | None = Field(None, description="Version range, as >=0.17.1.")
    gated: bool = Field(False, description="The model repository needs an accepted licence and a token.")
    sparks: int = Field(1, ge=1, description="Least number of Sparks.")
    packages: dict[str, str] = Field(default_factory=dict, description="Python packages and version ranges.")


class Facts(Model):
    """What is known of a model, for catalogue, memory estimate and notes."""

    parameters_b: float | None = None
    active_b: float | None = None
    quantization: str | None = None
    weights_gib: float | None = None
    context: int | None = Field(None, description="Native context length in tokens.")
    modalities: tuple[str, ...] = ("text",)
    license: str | None = None


class Recipe(Model):
    """A known-good deployment of one model."""

    recipe: Name
    title: str
    extends: Name | None = None
    source: str = Field(description="Where the recipe comes from: document and section, or a URL.")
    confidence: Literal["tested", "documented", "derived"] = "documented"
    model: Repository = Field(description="Repository on the Hugging Face Hub.")
    revision: str | None = None
    image: str = Field(description="Image with tag; the digest comes from the lock file.")
    served_name: str | None = None
    flags: dict[str, FlagValue] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)
    container: ContainerSpec = ContainerSpec()
    gate: GateSpec = GateSpec()
    needs: Needs = Needs()
    facts: Facts = Facts()
    notes: tuple[str, ...] = ()


class ServiceSpec(Model):
    """One entry of ``serve:`` in a host file."""

    recipe: Name | None = Field(None, description="A recipe of the catalogue, or of the fleet's recipes/.")
    model: Repository | None = Field(None, description="Another model repository than the recipe's.")
    name: Name | None = Field(None, description="Container, unit and default served model name.")
    port: Port | None = None
    image: str | None = None
    revision: Revision | None = None
    served_name: str | None = None
    flags: dict[str, FlagValue] = Field(default_factory=dict)
    env: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    container: ContainerSpec = ContainerSpec()
    gate: GateSpec = GateSpec()
    reserve_gib: float | None = Field(None, ge=0)


class SshSpec(Model):
    """How to reach a Spark. Further keys of pyinfra's SSH connector go under ``options``."""

    hostname: str | None = None
    port: Port | None = None
    user: str | None = None
    key: str | None = None
    config_file: str | None = None
    known_hosts_file: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class HostFile(Model):
    """``inventories/<fleet>/<host>.yaml``: what one Spark shall be."""

    ssh: SshSpec = SshSpec()
    serve: Name | tuple[ServiceSpec, ...] | ServiceSpec | None = Field(
        None, description="A recipe's name, one service, or a list of services. Nothing: an idle Spark."
    )
    reserve_gib: float | None = Field(None, ge=0, description="Memory (GiB) kept for all but engines.")
    allow: dict[str, str] = Field(default_factory=dict, description="Rule id -> why it does not apply here.")


class RegistryMirror(Model):
    """Another address for a registry, with its own certificate authority."""

    url: str
    ca_file: str | None = None


class Defaults(Model):
    """``sparkfleet = {...}`` in group_data: fleet-wide settings. The values here are the built-in ones."""

    reserve_gib: float = Field(12, ge=0)
    models_dir: HostPath = "~/vllm"
    cache_dir: HostPath = "~/vllm-compile-cache"
    floor_gib: float = Field(2, ge=0, description="MemAvailable (GiB) below which an engine is killed.")
    hf_endpoint: str | None = Field(None, description="Another hub; HF_ENDPOINT of the operator otherwise.")
    hf_token: TokenSource | None = Field(
        None, description="Where the token comes from: env:NAME, file:PATH or command:WORDS. Never the token."
    )
    registries: dict[str, RegistryMirror] = Field(default_factory=dict)
    first_port: Port = 8000
    flags: dict[str, FlagValue] = Field(default_factory=dict)
    env: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    container: ContainerSpec = ContainerSpec()
    gate: GateSpec = GateSpec()
    allow: dict[str, str] = Field(default_factory=dict)
