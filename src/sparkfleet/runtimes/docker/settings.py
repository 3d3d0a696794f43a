"""Every setting of a container, in one table: its key, type, default and description in YAML, the option that
creates it, where ``docker inspect`` shows it, and its key in a compose file.

All else derives from a row: the models and the JSON Schema of the YAML files, the reference page, the options
of ``docker create``, the comparison with a container, and the compose file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sparkfleet.contract.generation import LABEL_SERVICE
from sparkfleet.resources.base import AbsolutePath, HostPath, Limits, described
from sparkfleet.runtimes.base import is_cdi_name

if TYPE_CHECKING:
    from sparkfleet.runtimes.observation import ObservedImage
    from sparkfleet.runtimes.operator import DeclaredWorkload

LOG_DRIVER = "json-file"
LOG_OPTIONS = {"max-file": "3", "max-size": "50m"}
"""Docker keeps logs without bound by default; an engine under load writes one line per request."""
DEFAULT_SHM_BYTES = 64 << 20
"""The size of /dev/shm that Docker gives a container without ``--shm-size``."""
ALL_ACCESS = "rwm"
"""What Docker allows with a device, if its option does not end with something else."""
CDI = "cdi"
"""The driver of a device request that names devices by the Container Device Interface."""
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

PortMapping = Annotated[
    str, Limits(r"^[0-9]{1,5}:[0-9]{1,5}$", text="SPARK:CONTAINER, for example 9090:9090")
]
ExtraHost = Annotated[
    str,
    Limits(r"^[A-Za-z0-9][\w.-]*:([0-9.]+|[0-9a-fA-F:]+|host-gateway)$", text="NAME:ADDRESS"),
]
Tmpfs = Annotated[
    str,
    Limits(r"^/[^,:\s]+(:[\w=,-]+)?$", text="an absolute path in the container, with options after ':'"),
]
SecurityOption = Annotated[
    str,
    Limits(
        r"^(seccomp=unconfined|apparmor=[\w./-]+|no-new-privileges(:true)?)$",
        text="seccomp=unconfined, apparmor=PROFILE or no-new-privileges",
    ),
]
Ulimit = (
    Annotated[int, Limits(ge=-1)] | Annotated[str, Limits(r"^(-1|[0-9]+):(-1|[0-9]+)$", text="SOFT:HARD")]
)
CpuSet = Annotated[
    str, Limits(r"^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$", text="cores, for example 0-9 or 0,2,4")
]

Values = tuple[str, ...]
"""What is declared of one setting, in the spelling of its ``docker create`` option; () = not declared."""


@dataclass(frozen=True)
class Mount:
    """A directory or file of the Spark inside the container."""

    source: HostPath = described("Path on the Spark; ~ is the login user's home.")
    target: AbsolutePath = described("Absolute path in the container.")
    read_only: bool = described("Mount it read-only.", default=False)


@dataclass(frozen=True)
class Setting:
    """One setting of a container: what is done with it in terms of Docker."""

    render: Callable[[str], Sequence[str]]
    """One value -> options of ``docker create``."""
    inspect: tuple[str, ...] = ()
    """Dotted paths in ``docker inspect``; () = not compared here."""
    declare: Callable[[DeclaredWorkload], Values] | None = None
    """What is declared, where that is not the value in ``Container``."""
    normalize: Callable[[str], tuple[str, str]] = lambda value: ("", value)
    """One declared value -> key and text that compare with what ``parse`` returns."""
    parse: Callable[[Any, ObservedImage | None], Mapping[str, str]] = lambda value, _: _scalar(value)
    """The value at an ``inspect`` path, and the image if known -> texts by key; {} = Docker's default."""
    default: str | None = None
    """Text of Docker's default where ``parse`` returns it: as if nothing were declared."""
    compose: str = ""
    """Key of a compose service; "" = none."""
    to_compose: Callable[[Values], Any] = lambda values: values[0] if values else None
    label: str = ""
    """What the plan calls it, if not by ``name``."""
    keyed: bool = False
    """True: one row of the plan per key (``mount /models``), else one row for the setting."""
    from_image: Callable[[ObservedImage], str] = lambda _: ""
    """What the image itself sets where nothing is declared."""
    name: str = ""
    """That of its row."""

    @property
    def title(self) -> str:
        """Return what the plan calls it."""
        return self.label or self.name.replace("_", " ")

    def values(self, source: DeclaredWorkload) -> Values:
        """Return what a workload declares."""
        if self.declare is not None:
            return self.declare(source)
        return texts(getattr(source.container, self.name))


def size_in_bytes(text: str) -> int:
    """Return the bytes of a Docker size (``16g``); 0 for ""."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)i?b?", text.strip().lower())
    return int(float(match[1]) * _UNITS[match[2]]) if match else 0


def texts(value: Any) -> Values:
    """Return a value of ``Container`` as texts: of a mapping and a list one each, of what is unset none."""
    if value is None or value in ("", (), {}):
        return ()
    if isinstance(value, Mapping):
        return tuple(f"{key}={one}" for key, one in value.items())
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)


def row(default: Any, description: str, setting: Setting) -> Any:
    """Return a field of ``Container``.

    ``default`` applies where no YAML file names it; None and empty values: Docker's or the image's own.
    ``description`` is for the reference and for editors; "" = no user writes it.
    """
    metadata = {"description": description, "setting": setting}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def option(*names: str) -> Callable[[str], Sequence[str]]:
    """Return a renderer that gives each of these options the value."""
    return lambda value: [arg for name in names for arg in (name, value)]


def as_list(values: Values) -> list[str]:
    """Return the values as a compose list."""
    return list(values)


def as_map(values: Values) -> dict[str, str]:
    """Return ``name=value`` texts as a compose mapping."""
    return dict(value.partition("=")[::2] for value in values)


def _scalar(value: Any) -> dict[str, str]:
    return {"": str(value)} if value not in (None, "", 0) else {}


def _network(value: Any, _: ObservedImage | None) -> dict[str, str]:
    return {"": str(value or "bridge").replace("default", "bridge")}


def _published(source: DeclaredWorkload) -> Values:
    if source.container.network != "bridge":
        return ()
    return tuple(dict.fromkeys((f"{source.port}:{source.port}", *source.container.ports)))


def _publish(value: Any, _: ObservedImage | None) -> dict[str, str]:
    ports: Iterable[tuple[str, Any]] = (value or {}).items()
    return {port: ",".join(entry.get("HostPort", "") for entry in entries or ()) for port, entries in ports}


def _host_entry(text: str) -> tuple[str, str]:
    name, _, address = text.partition(":")
    return name, address


def _tmpfs(text: str) -> tuple[str, str]:
    path, _, options = text.partition(":")
    return path, options or "yes"


def _security(text: str) -> tuple[str, str]:
    return text.removesuffix(":true"), "yes"


def _gpus(value: Any, _: ObservedImage | None) -> dict[str, str]:
    found = {}
    for request in value or ():
        if request.get("Driver") == CDI:
            continue  # a device
        capabilities = {name for group in request.get("Capabilities") or () for name in group}
        ids = request.get("DeviceIDs")
        found[""] = ",".join(ids) if ids else "all" if "gpu" in capabilities else "other"
    return found


def _entrypoint(value: Any, image: ObservedImage | None) -> dict[str, str]:
    if image is None or tuple(value or ()) == image.entrypoint:
        return {}
    return {"": " ".join(value or ())}


def _working_directory(value: Any, image: ObservedImage | None) -> dict[str, str]:
    return {} if image is None or (value or "") == image.working_dir else {"": str(value or "/")}


def _ulimit(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    soft, _, hard = value.partition(":")
    return name, _ulimit_text(soft, hard or soft)


def _ulimit_text(soft: object, hard: object) -> str:
    return f"{hard}" if soft == hard else f"{soft}:{hard}"


def _ulimits_of_compose(values: Values) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in map(_ulimit, values):
        soft, _, hard = text.partition(":")
        found[name] = {"soft": int(soft), "hard": int(hard)} if hard else int(soft)
    return found


def _capability(text: str) -> tuple[str, str]:
    return text.upper().removeprefix("CAP_"), "yes"


def _device(text: str) -> tuple[str, str]:
    if is_cdi_name(text):
        return text, "yes"
    path, *rest = text.split(":")
    access = rest.pop() if rest and not rest[-1].startswith("/") else ALL_ACCESS
    return path, _device_text(rest[0] if rest else path, access)


def _device_text(path: str, access: str) -> str:
    """Return a device in the container: with what is allowed, if that is not everything."""
    return path if set(access) >= set(ALL_ACCESS) else f"{path}:{''.join(sorted(access))}"


def _devices(value: Any, _: ObservedImage | None) -> dict[str, str]:
    found = {}
    for one in value or ():
        if "PathOnHost" in one:
            access = one.get("CgroupPermissions") or ALL_ACCESS
            found[one["PathOnHost"]] = _device_text(one["PathInContainer"], access)
        elif one.get("Driver") == CDI:  # HostConfig.DeviceRequests, with those of --gpus
            found |= dict.fromkeys(one.get("DeviceIDs") or (), "yes")
    return found


def _mount_option(mount: Mount) -> str:
    text = f"type=bind,source={mount.source},target={mount.target}"
    return text + (",readonly" if mount.read_only else "")


def _mount_fields(text: str) -> tuple[str, str, bool]:
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    return fields["source"], fields["target"], "readonly" in fields


def _mount_text(source: str, target: str, read_only: bool) -> str:
    return f"{source}:{target}" + (":ro" if read_only else "")


def _mount(text: str) -> tuple[str, str]:
    source, target, read_only = _mount_fields(text)
    return target, _mount_text(source, target, read_only)


def _mounts(value: Any, _: ObservedImage | None) -> dict[str, str]:
    found = {}
    for entry in value or ():
        if isinstance(entry, str):  # HostConfig.Binds: what `docker run --volume` makes
            source, target, *mode = entry.split(":") if ":" in entry else ("", entry)
            found[target] = _mount_text(source, target, "ro" in ",".join(mode).split(","))
        else:
            target = entry["Target"]
            found[target] = _mount_text(entry.get("Source", ""), target, bool(entry.get("ReadOnly")))
    return found


def _volumes(values: Values) -> list[dict[str, Any]]:
    fields = [_mount_fields(value) for value in values]
    return [
        {"type": "bind", "source": source, "target": target, "read_only": read_only}
        for source, target, read_only in fields
    ]


def _log_text(driver: str, options: Mapping[str, str]) -> str:
    return " ".join([driver, *(f"{key}={value}" for key, value in sorted(options.items()))])


def _log_options(text: str) -> list[str]:
    driver, *options = text.split()
    return ["--log-driver", driver, *(arg for value in options for arg in ("--log-opt", value))]


def _log(value: Any, _: ObservedImage | None) -> dict[str, str]:
    return {"": _log_text((value or {}).get("Type", ""), (value or {}).get("Config") or {})}


def _gpus_of_compose(values: Values) -> dict[str, Any] | None:
    device = {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    return {"resources": {"reservations": {"devices": [device]}}} if values else None


@dataclass(frozen=True)
class Container:
    """The table. As a value: the settings of one service, merged and complete.

    A field is a key under ``container:`` in YAML; a ``ClassVar`` is the same for all services.

    The order of the rows is the order of the options in a recorded ``docker create``, and the id of a
    generation is made from these: a new row goes to the end, and must add no option where it is not declared.
    """

    service_label: ClassVar[Setting] = Setting(
        option("--label"),
        ("Config.Labels",),
        declare=lambda source: (f"{LABEL_SERVICE}={source.service}",),
        normalize=lambda value: ("", value.partition("=")[2]),
        parse=lambda value, _: {"": (value or {}).get(LABEL_SERVICE, "")},
    )
    restart: ClassVar[Setting] = Setting(
        option("--restart"),
        ("HostConfig.RestartPolicy",),
        declare=lambda _: ("no",),
        parse=lambda value, _: {"": (value or {}).get("Name") or "no"},
        compose="restart",
    )
    network: Literal["host", "bridge"] = row(
        "host",
        "host: the Spark's network; bridge: only `port` and `ports` are published.",
        Setting(
            option("--network"),
            ("HostConfig.NetworkMode",),
            parse=_network,
            compose="network_mode",
            to_compose=lambda values: "host" if values == ("host",) else None,
        ),
    )
    ipc: Literal["host", "private", "shareable"] = row(
        "host",
        "host: the workers use the Spark's shared memory.",
        Setting(
            option("--ipc"),
            ("HostConfig.IpcMode",),
            parse=lambda value, _: {"": str(value or "private")},
            compose="ipc",
        ),
    )
    ports: tuple[PortMapping, ...] = row(
        (),
        "Further ports to publish with `network: bridge`, for example 9090:9090 (Spark:container); the "
        "service's own `port` is published anyway.",
        Setting(
            option("--publish"),
            ("HostConfig.PortBindings",),
            declare=_published,
            normalize=lambda value: (f"{value.partition(':')[2]}/tcp", value.partition(":")[0]),
            parse=_publish,
            compose="ports",
            to_compose=as_list,
            label="publish",
            keyed=True,
        ),
    )
    shm_size: str = row(
        "",
        "For example 16g; ignored with ipc: host.",
        Setting(
            option("--shm-size"),
            ("HostConfig.ShmSize",),
            declare=lambda source: () if source.container.ipc == "host" else texts(source.container.shm_size),
            normalize=lambda value: ("", str(size_in_bytes(value))),
            default=str(DEFAULT_SHM_BYTES),
            compose="shm_size",
            label="shm",
        ),
    )
    gpus: Literal["all", "none"] = row(
        "all",
        "all: the Spark's GPU.",
        Setting(
            option("--gpus"),
            ("HostConfig.DeviceRequests",),
            declare=lambda source: ("all",) if source.container.gpus == "all" else (),
            parse=_gpus,
            compose="deploy",
            to_compose=_gpus_of_compose,
        ),
    )
    user: str = row(
        "",
        "user[:group] inside the container; default: the image's user.",
        Setting(option("--user"), ("Config.User",), compose="user", from_image=lambda image: image.user),
    )
    entrypoint: str = row(
        "",
        "",  # replaces the image's own: some ranks of clusters need it
        Setting(
            option("--entrypoint"),
            ("Config.Entrypoint",),
            parse=_entrypoint,
            compose="entrypoint",
            to_compose=as_list,
        ),
    )
    memory: str = row(
        "",
        "Hard limit, for example 110g. Does not limit GPU memory on a Spark.",
        Setting(
            option("--memory", "--memory-swap"),
            ("HostConfig.Memory",),
            normalize=lambda value: ("", str(size_in_bytes(value))),
            compose="mem_limit",
            label="memory limit",
        ),
    )
    ulimits: dict[str, Ulimit] = row(
        {},
        "For example memlock: -1, or soft and hard limit: nofile: 4096:65536.",
        Setting(
            option("--ulimit"),
            ("HostConfig.Ulimits",),
            normalize=_ulimit,
            parse=lambda value, _: {
                one["Name"]: _ulimit_text(one["Soft"], one["Hard"]) for one in value or ()
            },
            compose="ulimits",
            to_compose=_ulimits_of_compose,
            label="ulimit",
            keyed=True,
        ),
    )
    devices: tuple[str, ...] = row(
        (),
        "For example /dev/infiniband, or the CDI name nvidia.com/gpu=all.",
        Setting(
            option("--device"),
            ("HostConfig.Devices", "HostConfig.DeviceRequests"),
            normalize=_device,
            parse=_devices,
            compose="devices",
            to_compose=as_list,
            label="device",
            keyed=True,
        ),
    )
    cap_add: tuple[str, ...] = row(
        (),
        "Linux capabilities, for example IPC_LOCK.",
        Setting(
            option("--cap-add"),
            ("HostConfig.CapAdd",),
            normalize=_capability,
            parse=lambda value, _: dict(_capability(name) for name in value or ()),
            compose="cap_add",
            to_compose=as_list,
            label="capability",
            keyed=True,
        ),
    )
    mounts: tuple[Mount, ...] = row(
        (),
        "Mounts in addition to models and compile cache; targets are unique.",
        Setting(
            option("--mount"),
            ("HostConfig.Mounts", "HostConfig.Binds"),
            declare=lambda source: tuple(_mount_option(mount) for mount in source.mounts),
            normalize=_mount,
            parse=_mounts,
            compose="volumes",
            to_compose=_volumes,
            label="mount",
            keyed=True,
        ),
    )
    environment: ClassVar[Setting] = Setting(
        option("--env"),  # compared variable by variable, with secrets hidden: service_changes
        declare=lambda source: texts(source.environment),
        compose="environment",
        to_compose=as_map,
    )
    log: ClassVar[Setting] = Setting(
        _log_options,
        ("HostConfig.LogConfig",),
        declare=lambda _: (_log_text(LOG_DRIVER, LOG_OPTIONS),),
        parse=_log,
        compose="logging",
        to_compose=lambda _: {"driver": LOG_DRIVER, "options": LOG_OPTIONS},
    )
    working_directory: ClassVar[Setting] = Setting(
        option("--workdir"), ("Config.WorkingDir",), declare=lambda _: (), parse=_working_directory
    )
    extra_hosts: tuple[ExtraHost, ...] = row(
        (),
        "Entries of /etc/hosts, for example files.local:192.168.1.5.",
        Setting(
            option("--add-host"),
            ("HostConfig.ExtraHosts",),
            normalize=_host_entry,
            parse=lambda value, _: dict(_host_entry(entry) for entry in value or ()),
            compose="extra_hosts",
            to_compose=as_list,
            label="extra host",
            keyed=True,
        ),
    )
    tmpfs: tuple[Tmpfs, ...] = row(
        (),
        "Directories in memory, for example /tmp or /scratch:size=2g.",
        Setting(
            option("--tmpfs"),
            ("HostConfig.Tmpfs",),
            normalize=_tmpfs,
            parse=lambda value, _: {path: options or "yes" for path, options in (value or {}).items()},
            compose="tmpfs",
            to_compose=as_list,
            keyed=True,
        ),
    )
    security_opt: tuple[SecurityOption, ...] = row(
        (),
        "seccomp=unconfined, apparmor=PROFILE or no-new-privileges.",
        Setting(
            option("--security-opt"),
            ("HostConfig.SecurityOpt",),
            normalize=_security,
            # Docker adds label=disable by itself for --ipc host.
            parse=lambda value, _: dict(_security(one) for one in value or () if one != "label=disable"),
            compose="security_opt",
            to_compose=as_list,
            label="security option",
            keyed=True,
        ),
    )
    cpuset: CpuSet = row(
        "",
        "CPU cores of the container, for example 0-9.",
        Setting(option("--cpuset-cpus"), ("HostConfig.CpusetCpus",), compose="cpuset"),
    )


def _rows() -> Iterable[Setting]:
    in_yaml = {one.name: one.metadata["setting"] for one in fields(Container)}
    for name in Container.__annotations__:
        yield replace(in_yaml.get(name) or getattr(Container, name), name=name)


SETTINGS: tuple[Setting, ...] = tuple(_rows())
"""The rows in their order, with their names."""
