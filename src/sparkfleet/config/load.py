"""Reads the files of an inventory into a Fleet; all errors of all files are reported at once.

``sparkfleet.inventory.load_fleet`` supplies recipes and lock file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sparkfleet.config import cluster_file, clusters, cross_checks, group_data, resolve, resources
from sparkfleet.config.cluster_file import ClusterSource
from sparkfleet.config.clusters import ClusterShare
from sparkfleet.config.host_file import HostSource, load
from sparkfleet.config.lock_data import Lock
from sparkfleet.config.merge import Layer
from sparkfleet.config.models import Defaults
from sparkfleet.config.yaml_file import shown, unsaved_in
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.desired_state import Fleet, Host, Mirror, PackageIndex, Paths, Prepare, Service, Stage
from sparkfleet.suggest import did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class FleetPaths:
    """Paths of the files of a fleet."""

    fleet: str
    inventory: Path
    """``inventories/<fleet>.py``, for pyinfra (sparkfleet does not need it)."""
    directory: Path
    """``inventories/<fleet>/``."""

    @property
    def lock(self) -> Path:
        """Return the path of the lock file."""
        return self.directory / "fleet.lock"

    @property
    def recipes(self) -> Path:
        """Return the directory of the fleet's own recipes, which may be missing."""
        return self.directory / "recipes"

    @property
    def clusters(self) -> Path:
        """Return the directory of cluster files, which may be missing."""
        return self.directory / "clusters"


def fleet_paths(inventory: Path) -> FleetPaths:
    """Return the paths of a fleet, given ``inventories/<fleet>.py`` or ``inventories/<fleet>``."""
    inventory = _resolved(inventory)
    directory = inventory.with_suffix("") if inventory.suffix == ".py" else inventory
    if not directory.is_dir():
        candidates = {path.name: f"{shown(path)}.py" for path in _fleet_directories(directory.parent)}
        existing = [path for path in candidates.values() if Path(path).is_file()]
        remedy = "write a fleet: sparkfleet init"
        if existing:
            remedy = f"use one of: {', '.join(sorted(existing))}; or {remedy}"
        remedy = did_you_mean(directory.name, candidates, remedy, show=candidates.__getitem__)
        expected = f"the directory {shown(directory)}/ with host files"
        raise SparkfleetError(
            Diagnostic(str(inventory), "the fleet does not exist", expected, remedy, code="fleet-unknown")
        )
    return FleetPaths(directory.name, directory.with_name(f"{directory.name}.py"), directory)


def _fleet_directories(parent: Path) -> list[Path]:
    """Return the directories of fleets in this directory and in ``inventories/`` of the working directory."""
    places = {parent.absolute(): parent, Path("inventories").absolute(): Path("inventories")}
    return [
        path
        for place in places.values()
        if place.is_dir()
        for path in place.iterdir()
        if path.is_dir() and (place.name == "inventories" or path.with_name(f"{path.name}.py").is_file())
    ]


def _resolved(inventory: Path) -> Path:
    """Return what a link leads to, unless the fleet's directory is beside the link."""
    beside = inventory.with_suffix("") if inventory.suffix == ".py" else inventory
    return inventory.resolve() if inventory.is_symlink() and not beside.is_dir() else inventory


def host_files(places: FleetPaths) -> list[Path]:
    """Return the host files of a fleet, sorted; also those with the suffix ``.yml``, which is an error."""
    paths = {*places.directory.iterdir(), *unsaved_in(places.directory)}
    return sorted(path for path in paths if path.suffix.lower() in {".yaml", ".yml"})


def cluster_names(inventory: Path) -> list[str]:
    """Return the names of a fleet's cluster files, sorted; raise ``SparkfleetError`` for an unknown fleet."""
    return [path.stem for path in _cluster_files(fleet_paths(inventory))]


def _cluster_files(places: FleetPaths) -> list[Path]:
    if not places.clusters.is_dir():
        return []
    return sorted(path for path in places.clusters.iterdir() if path.suffix.lower() in {".yaml", ".yml"})


@dataclass(frozen=True)
class LoadedFleet:
    """The valid part of a fleet's files, and every error of every file."""

    fleet: Fleet
    diagnostics: tuple[Diagnostic, ...]
    without_rules: frozenset[str] = frozenset()
    """Places of services with values that could not be read, about which lint rules would guess."""


def read(
    places: FleetPaths,
    recipes: Callable[[], resolve.Recipes],
    lock: Callable[[], Lock | None],
    *,
    pins_required: bool = True,
) -> LoadedFleet:
    """Return what the files declare, as far as it is valid, and every error of every file.

    ``recipes`` and ``lock`` are called once; their errors are collected with the others. ``lock`` returns
    None for a fleet without pins. Without ``pins_required`` a missing entry is no error, and an unreadable
    lock file is a warning.
    """
    diagnostics: list[Diagnostic] = []
    defaults, default_layers = _defaults(places, diagnostics)
    has_defaults = not diagnostics
    catalog = recipes()
    diagnostics += catalog.diagnostics
    lock_diagnostics: list[Diagnostic] = []
    pins = _collect(lock, lock_diagnostics)
    names = [path.stem for path in host_files(places)]
    sources = _hosts(places, diagnostics)
    cluster_sources = _clusters(places, diagnostics)
    # An unreadable lock file is reported once, not for each of its entries.
    context = resolve.Context(catalog, defaults, default_layers, pins)
    hosts = _fleet_hosts(sources, cluster_sources, context, names)
    diagnostics += context.diagnostics
    if pins_required:
        diagnostics += [*lock_diagnostics, *_unpinned(places, context)]
    else:
        context.warnings += [f"{one.location}: {one.message}" for one in lock_diagnostics]
    diagnostics += cross_checks.fleet_diagnostics(hosts)
    diagnostics += cross_checks.image_diagnostics(default_layers)
    context.warnings += cross_checks.image_warnings(default_layers, context.fleet_images)
    diagnostics += cross_checks.seed_diagnostics(defaults.stage.seed, default_layers, names)
    declared = [one for source in sources for one in source.services]
    declared += [source.service for source in cluster_sources if source.service]
    return LoadedFleet(
        _fleet(places, hosts, context),
        tuple(sorted(set(diagnostics), key=lambda one: (one.place, one))),
        frozenset(one.layer.where(()) for one in declared if not (has_defaults and one.has_rules)),
    )


def _fleet(places: FleetPaths, hosts: Sequence[Host], context: resolve.Context) -> Fleet:
    defaults = context.defaults
    return Fleet(
        name=places.fleet,
        hosts=tuple(hosts),
        warnings=tuple(dict.fromkeys(context.warnings)),
        mirrors=tuple(
            Mirror(registry, mirror.url, mirror.ca_file or "")
            for registry, mirror in defaults.registries.items()
        ),
        hf_endpoint=defaults.hf_endpoint or "",
        hf_token=defaults.hf_token or "",
        index=PackageIndex(
            defaults.python_packages.index or "",
            defaults.python_packages.python,
            defaults.python_packages.machine,
        ),
    )


def _collect(read_it: Callable[[], T], diagnostics: list[Diagnostic]) -> T | None:
    try:
        return read_it()
    except SparkfleetError as error:
        diagnostics += error.diagnostics
        return None


def _defaults(places: FleetPaths, diagnostics: list[Diagnostic]) -> tuple[Defaults, tuple[Layer, ...]]:
    missed = group_data.unread_directory(places.inventory)
    if missed:
        message = "group_data/ is read only from the current directory"
        diagnostics.append(
            Diagnostic(
                f"{missed}",
                message,
                "group_data/ in the current directory",
                f"cd {missed.parent}",
                code="group-data-not-found",
            )
        )
    group_files = []
    for path in group_data.files(places.inventory, places.fleet):
        group_file = _collect(lambda path=path: group_data.read(path), diagnostics)  # type: ignore[misc]
        if group_file:
            group_files.append(group_file)
    return group_data.merged(group_files), tuple(Layer(file.values, file.where) for file in group_files)


def _hosts(places: FleetPaths, diagnostics: list[Diagnostic]) -> list[HostSource]:
    paths = host_files(places)
    if not paths:
        example = shown(places.directory / "spark-01.yaml")
        message = "the directory has no host files"
        diagnostics.append(
            Diagnostic(
                shown(places.directory),
                message,
                "one HOST.yaml per Spark",
                f"create {example}",
                code="fleet-empty",
            )
        )
    return _read_each(paths, load, diagnostics)


def _clusters(places: FleetPaths, diagnostics: list[Diagnostic]) -> list[ClusterSource]:
    return _read_each(_cluster_files(places), cluster_file.load, diagnostics)


def _read_each(
    paths: Sequence[Path],
    load_file: Callable[[Path], tuple[T | None, list[Diagnostic]]],
    diagnostics: list[Diagnostic],
) -> list[T]:
    sources = []
    for path in paths:
        try:
            source, found = load_file(path)
        except SparkfleetError as error:
            source, found = None, list(error.diagnostics)
        diagnostics += found
        if source is not None:
            sources.append(source)
    return sources


def _fleet_hosts(
    sources: list[HostSource],
    cluster_sources: list[ClusterSource],
    context: resolve.Context,
    names: Sequence[str],
) -> list[Host]:
    """Return the hosts, each with its services and that of its cluster.

    ``names``: of all host files, including invalid ones.
    """
    written = {
        name: cluster.service.spec.port
        for cluster in cluster_sources
        for name in cluster.settings.hosts
        if cluster.service and cluster.service.spec.port
    }
    own = {source.name: _own_services(source, context, written.get(source.name)) for source in sources}

    def ports(names: Sequence[str]) -> set[int]:
        return {service.port for name in names for service, _ in own.get(name, ())}

    joined = clusters.shares_of_hosts(cluster_sources, names, context, ports)
    return [_host(source, own[source.name], joined.get(source.name), context) for source in sources]


_Placed = list[tuple[Service, Layer]]


def _own_services(source: HostSource, context: resolve.Context, port: int | None) -> _Placed:
    """Return the services of the host file that could be resolved. ``port``: of its cluster's service."""
    resolved = [(resolve.service(one.spec, one.layer, context), one.layer) for one in source.services]
    placed = [(service, layer) for service, layer in resolved if service]
    for service, layer in placed:
        context.diagnostics += cross_checks.single_diagnostics(service, layer)
    services = [service for service, _ in placed]
    numbered = cross_checks.ports(services, context.defaults.first_port, {port} if port else ())
    return [(service, layer) for service, (_, layer) in zip(numbered, placed, strict=True)]


def _host(source: HostSource, own: _Placed, joined: ClusterShare | None, context: resolve.Context) -> Host:
    defaults = context.defaults
    placed = list(own)
    # Without one of them, findings about ports and memory would be wrong.
    is_complete = source.is_complete and len(own) == len(source.services)
    reserves = [one.spec.reserve_gib for one in source.services if one.spec.reserve_gib is not None]
    reserve = max(reserves) if reserves else source.settings.reserve_gib
    if joined and joined.service and joined.layer:
        placed.append((joined.service, joined.layer))
        reserve = joined.reserve_gib if reserve is None else reserve
    ignore_rules = {**defaults.ignore_rules, **source.settings.ignore_rules}
    context.warnings += cross_checks.port_warnings(placed, source)
    if is_complete:
        context.diagnostics += cross_checks.host_diagnostics(placed, source, ignore_rules)
    paths = Paths(
        source.settings.models_dir or defaults.models_dir, source.settings.cache_dir or defaults.cache_dir
    )
    return Host(
        name=source.name,
        services=tuple(service for service, _ in placed),
        paths=paths,
        reserve_gib=defaults.reserve_gib if reserve is None else reserve,
        min_available_gib=defaults.min_available_gib
        if source.settings.min_available_gib is None
        else source.settings.min_available_gib,
        memory_gib=source.settings.memory_gib or 0.0,
        hf_endpoint=defaults.hf_endpoint or "",
        hf_token=defaults.hf_token or "",
        sudo_password=source.settings.ssh.sudo_password or defaults.sudo_password,
        ssh=_ssh(source),
        file=source.document.file,
        ignore_rules=tuple(sorted(ignore_rules.items())),
        prepare=_prepare(source, context, paths),
        member=joined.member if joined else None,
        stage=Stage(**defaults.stage.model_dump()),
    )


def _prepare(source: HostSource, context: resolve.Context, paths: Paths) -> Prepare:
    own = Layer(source.settings.model_dump(include={"prepare"}, exclude_unset=True), source.document.where)
    layers = (*context.default_layers, own)
    return resources.prepare(layers, paths.cache, context.defaults.hf_token or "", context.diagnostics)


def _ssh(source: HostSource) -> tuple[tuple[str, object], ...]:
    settings = source.settings.ssh.model_dump(exclude_unset=True)
    options = settings.pop("options", {})
    settings.pop("sudo_password", None)
    data = {f"ssh_{name}": value for name, value in settings.items() if value is not None}
    data |= {name if name.startswith("ssh_") else f"ssh_{name}": value for name, value in options.items()}
    return tuple(sorted(data.items()))


def _unpinned(places: FleetPaths, context: resolve.Context) -> list[Diagnostic]:
    remedy = f"sparkfleet lock {shown(places.inventory)}"
    if not context.unpinned:
        return []
    if not places.lock.exists():
        missing = ", ".join(context.unpinned)
        return [
            Diagnostic(
                shown(places.lock),
                "the lock file does not exist",
                f"an entry for each of: {missing}",
                remedy,
                code="lock-missing",
            )
        ]
    return [
        Diagnostic(
            place,
            f"{name} is not pinned",
            f"an entry in {shown(places.lock)}",
            remedy,
            code="lock-entry-missing",
        )
        for name, place in context.unpinned.items()
    ]
