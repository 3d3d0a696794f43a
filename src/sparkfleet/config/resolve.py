"""Resolves a service: recipe, defaults and host file merged, completed and pinned."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sparkfleet import engines, runtimes
from sparkfleet.config import image, lock_data, required_packages, reserved_flags
from sparkfleet.config.lock_data import Lock
from sparkfleet.config.merge import FullFlag, Layer, MergedService, merge_layers
from sparkfleet.config.models import Defaults, Recipe, ServiceSpec
from sparkfleet.config.origin import SERVICE, SHIPPED, relocate_to_user
from sparkfleet.config.yaml_file import Path_
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.contract.generation import CACHE_IN_CONTAINER, Gate, Task
from sparkfleet.desired_state import (
    MODELS_IN_CONTAINER,
    FlagValue,
    ImageRef,
    Service,
    Weights,
)
from sparkfleet.engines.base import Engine
from sparkfleet.runtimes import Container, Mount
from sparkfleet.suggest import did_you_mean

SNAPSHOT = "{snapshot}"
_HUB = f"{MODELS_IN_CONTAINER}/hub"
"""Where the staged models are: a mount there would hide them."""

_RESERVED_NAME = re.compile(
    r"recover|rollout-[a-z0-9-]*[0-9a-f]{8}(?:-\d+)?|swap-.*|stage-.*|.*\.next|.*\.old|."
)
"""Names of units, containers of a rollout, and names that are too short for docker."""
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


class Recipes(Protocol):
    """The catalog, as resolving uses it."""

    diagnostics: list[Diagnostic]
    """Errors of the fleet's own recipes."""

    def names(self) -> list[str]:
        """Return the names of all recipes."""
        ...

    def recipe(self, name: str) -> Recipe:
        """Return the recipe; ``SparkfleetError`` if its file is invalid."""
        ...

    def where(self, name: str, path: Path_) -> str:
        """Return ``file:line`` of a value."""
        ...


@dataclass
class Context:
    """State that all hosts share while a fleet is resolved."""

    recipes: Recipes
    defaults: Defaults
    default_layers: tuple[Layer, ...]
    lock: Lock | None
    """None: the fleet is resolved without pins."""
    diagnostics: list[Diagnostic] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    fleet_images: set[tuple[str, str]] = field(default_factory=set)
    """Engine and image of group_data, for those that a service uses."""
    unpinned: dict[str, str] = field(default_factory=dict)
    """Image or model that the lock file lacks -> its first use."""


def service(
    spec: ServiceSpec,
    layer: Layer,
    context: Context,
    needs: Callable[[Engine], Mapping[str, str]] = lambda _: {},
) -> Service | None:
    """Return the service, with port 0 if none is declared; None after errors that prevent further checks.

    ``needs``: Python packages with version ranges that the engine needs in addition to the recipe's.
    """
    errors, unpinned = len(context.diagnostics), set(context.unpinned)
    result = _service(spec, layer, context, needs)
    place = layer.where(())
    context.diagnostics[errors:] = [relocate_to_user(one, place) for one in context.diagnostics[errors:]]
    for name in set(context.unpinned) - unpinned:
        if context.unpinned[name].startswith(SHIPPED):
            context.unpinned[name] = place
    return result


def _service(
    spec: ServiceSpec,
    layer: Layer,
    context: Context,
    needs: Callable[[Engine], Mapping[str, str]],
) -> Service | None:
    recipe = _recipe(spec, layer, context)
    if spec.recipe and recipe is None:
        return None
    own_layers = [*_recipe_layers(recipe, context), layer]
    layers = [*own_layers[:-1], *_fleet_layers(recipe, own_layers, context), layer]
    folded = merge_layers(layers, _full_flag(layers))
    context.diagnostics += folded.diagnostics
    context.warnings += folded.warnings
    place = layer.where(())
    runtime = _choice("runtime", runtimes.names(), runtimes.DEFAULT, folded, context)
    from_image = runtime is None or runtime in runtimes.of_containers()
    required = ("model", "image") if from_image else ("model",)
    missing = [name for name in required if name not in folded.fields]
    if missing:
        context.diagnostics.append(
            Diagnostic(
                place,
                f"the service has no {' and no '.join(missing)}",
                "'recipe:', or both 'model:' and 'image:'" if from_image else "'recipe:' or 'model:'",
                "set 'recipe:'; `sparkfleet catalog list` lists the recipes",
                code="service-incomplete",
            )
        )
        return None
    engine_name = _choice("engine", engines.names(), engines.DEFAULT, folded, context)
    if engine_name is None or runtime is None:
        return None
    engine = engines.get(engine_name)
    context.diagnostics += reserved_flags.diagnostics(folded, engine)
    pinned_image = _image(folded, context) if from_image else None
    if from_image and pinned_image is None:
        return None
    if spec.image and not from_image:
        context.diagnostics.append(_unused_image(folded, runtime))
    name = spec.name or (recipe.recipe if recipe else _name_of(folded.fields["model"]))
    if _RESERVED_NAME.fullmatch(name):
        expected = "a name other than 'recover', rollout-ID, swap-*, stage-*, *.next, *.old or one letter"
        diagnostic = Diagnostic(
            layer.where(("name",)),
            f"the service name '{name}' is reserved",
            expected,
            "set 'name:'",
            code="service-name-reserved",
        )
        context.diagnostics.append(diagnostic)
    revision, file = folded.fields.get("revision", ""), _file(folded, engine, context)
    weights = _weights(folded.fields["model"], revision, folded.origin["model"], context, file)
    if recipe and recipe.requires.gated and folded.fields["model"] == recipe.model:
        weights = replace(weights, gated=True)
    drafters = _drafters(folded, engine, context)
    commits = {one.repo: one.revision for one in drafters if one.files}
    flags = {name: _in_snapshot(value, weights) for name, value in folded.flags.items()}
    # A name in the host file replaces the recipe's.
    of_recipe = recipe.served_name if recipe and not spec.name else None
    plain_names = _expanded(of_recipe or name, (name,), folded.fields["model"])
    served_name, *aliases = _served_names(spec, plain_names, folded, engine, context)
    container = _container(folded.container)
    context.diagnostics += _container_diagnostics(container, folded)
    packages_needed = {**(recipe.requires.packages if recipe else {}), **needs(engine)}
    packages, wrong = required_packages.packages(packages_needed, spec, layer)
    context.diagnostics += wrong
    return Service(
        name=name,
        recipe=recipe.recipe if recipe else "",
        port=spec.port or 0,
        image=pinned_image and _with_packages(pinned_image, packages, folded, engine, context),
        weights=weights,
        served_name=served_name,
        flags=tuple(engine.pin_extra_models(flags, commits).items()),
        env=tuple(folded.env.items()),
        container=container,
        gate=_gate(folded, engine, context),
        origin=tuple(sorted({**folded.origin, SERVICE: place}.items())),
        drafters=drafters,
        requires_engine=(recipe.requires.engine or "") if recipe else "",
        requires_packages=packages,
        requires_sparks=recipe.requires.sparks if recipe else 1,
        limitations=recipe.limitations if recipe else (),
        engine=engine.name,
        runtime=runtime,
        served_aliases=tuple(aliases),
    )


def _served_names(
    spec: ServiceSpec, plain: tuple[str, ...], folded: MergedService, engine: Engine, context: Context
) -> tuple[str, ...]:
    """Return the names of the model in the API. ``plain``: the names that neither service nor fleet set."""
    model: str = folded.fields["model"]
    of_fleet = context.defaults.served_name
    names = _expanded(spec.served_name or of_fleet or plain, plain, model)
    if len(names) > 1 and not engine.takes_aliases:
        if of_fleet and not spec.served_name:
            return names[:1]  # a default of the fleet, which has services of other engines, too
        message = f"'served_name' has {len(names)} names, and {engine.title} serves a model under one"
        place = folded.origin["served_name"]
        context.diagnostics.append(
            Diagnostic(place, message, "one name", "keep one of them", code="yaml-invalid-value")
        )
    return names


def _expanded(declared: str | Sequence[str], names: tuple[str, ...], model: str) -> tuple[str, ...]:
    """Return the names, each once, with ``{model}`` and ``{name}`` replaced: alone it is all of ``names``."""
    found: list[str] = []
    for one in (declared,) if isinstance(declared, str) else declared:
        text = one.replace("{model}", model)
        found += names if text == "{name}" else (text.replace("{name}", names[0]),)
    return tuple(dict.fromkeys(found))


def _full_flag(layers: Sequence[Layer]) -> FullFlag:
    """Return how the declared engine spells flags; an engine that does not exist is reported later."""
    name = _engine_name(layers)
    return engines.get(name if name in engines.names() else engines.DEFAULT).full_flag


def _engine_name(layers: Sequence[Layer]) -> str:
    """Return the engine that recipe or service declare; the default one otherwise."""
    declared = (one.values["engine"] for one in reversed(layers) if one.values.get("engine"))
    return next(declared, engines.DEFAULT)


def _fleet_layers(recipe: Recipe | None, own: Sequence[Layer], context: Context) -> Iterator[Layer]:
    """Yield the layers of group_data, the last that names an image of the engine with that for this service.

    ``own``: the layers of recipe and service.
    """
    engine = _engine_name(own)
    repository = _repository(recipe.image) if recipe and recipe.image else ""
    naming = [one for one in context.default_layers if engine in (one.values.get("image") or {})]
    for one in context.default_layers:
        chosen = None
        if naming and one is naming[-1]:
            declared = one.values["image"][engine]
            choices = (declared,) if isinstance(declared, str) else declared
            suitable = (name for name in choices if not repository or _repository(name) in {repository, ""})
            chosen = next(suitable, None)
        if chosen and not own[-1].values.get("image"):
            context.fleet_images.add((engine, chosen))
        yield Layer({**one.values, "image": chosen}, _with_engine(one, engine))


def _with_engine(layer: Layer, engine: str) -> Callable[[Path_], str]:
    return lambda path: layer.where((*path, engine) if path == ("image",) else path)


def _repository(name: str) -> str:
    """Return the repository of an image; "" for an invalid name, which is reported where it is used."""
    try:
        return image.parse(name).repository
    except ValueError:
        return ""


def _choice(
    key: str, known: tuple[str, ...], default: str, folded: MergedService, context: Context
) -> str | None:
    """Return the declared name of an engine or a runtime; None for one that does not exist."""
    name: str = folded.fields.get(key, default)
    if name in known:
        return name
    expected = f"one of: {', '.join(known)}"
    hint = did_you_mean(name, known, f"set '{key}:' to one of them")
    message = f"unknown {key} '{name}'"
    context.diagnostics.append(
        Diagnostic(folded.origin[key], message, expected, hint, code="yaml-invalid-value")
    )
    return None


def _in_snapshot(value: FlagValue, weights: Weights) -> FlagValue:
    """Replace ``{snapshot}`` in a flag by the directory of the repository."""
    if isinstance(value, str):
        return value.replace(SNAPSHOT, weights.directory)
    if isinstance(value, dict):
        return {key: _in_snapshot(item, weights) for key, item in value.items()}
    return [_in_snapshot(item, weights) for item in value] if isinstance(value, list) else value


def seconds(written: str | int) -> int | None:
    """Return the seconds of a duration (``1h30m``, ``30m``, ``90s``, a number); None if it is invalid."""
    if isinstance(written, int):
        return written if written > 0 else None
    match = _DURATION.fullmatch(written.strip())
    if not match:
        return None
    hours, minutes, rest = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + rest or None


def _recipe(spec: ServiceSpec, layer: Layer, context: Context) -> Recipe | None:
    if spec.recipe is None:
        return None
    names = context.recipes.names()
    if spec.recipe in names:
        try:
            return context.recipes.recipe(spec.recipe)
        except SparkfleetError as error:
            context.diagnostics += error.diagnostics
            return None
    remedy = did_you_mean(spec.recipe, names, "run `sparkfleet catalog list`")
    context.diagnostics.append(
        Diagnostic(
            layer.where(("recipe",)),
            f"unknown recipe '{spec.recipe}'",
            "a recipe from the catalog or from the fleet's recipes/",
            remedy,
            code="recipe-unknown",
        )
    )
    return None


def _recipe_layers(recipe: Recipe | None, context: Context) -> list[Layer]:
    if recipe is None:
        return []
    return [
        Layer(recipe.model_dump(exclude_unset=True), lambda path: context.recipes.where(recipe.recipe, path))
    ]


def _image(folded: MergedService, context: Context) -> ImageRef | None:
    """Return the image, pinned where the lock file has it; None for an invalid name."""
    place = folded.origin["image"]
    try:
        parsed = image.parse(folded.fields["image"])
    except ValueError as error:
        name = str(folded.fields["image"])
        built = "/" not in name and image.is_name(name)
        hint = (
            "an image that `docker build` made on a Spark is in no registry to pin it from: `docker push` it "
            "to one that the Sparks reach, and write registry/name:tag here"
        )
        context.diagnostics.append(
            Diagnostic(
                place,
                str(error),
                "registry/name:tag or registry/name@sha256:...",
                hint if built else "correct the image name",
                code="image-name-invalid",
            )
        )
        return replace(image.parse(f"{name}:latest"), tag="") if image.is_name(name) else None
    if context.lock is None:
        return parsed
    pinned = lock_data.find_image(context.lock, parsed)
    if pinned is None:
        context.unpinned.setdefault(f"image {parsed.display}", place)
        return parsed
    return pinned


def _unused_image(folded: MergedService, runtime: str) -> Diagnostic:
    able = ", ".join(runtimes.of_containers())
    found = f"'image' has no effect: the runtime {runtime} has no images"
    hint = "remove 'image:', or choose another runtime"
    return Diagnostic(folded.origin["image"], found, f"runtime: {able}", hint, code="yaml-invalid-value")


def _with_packages(
    pinned: ImageRef,
    required: tuple[tuple[str, str], ...],
    folded: MergedService,
    engine: Engine,
    context: Context,
) -> ImageRef:
    """Return the image with the locked packages that it lacks."""
    lacking = required_packages.missing(pinned, required, engine)
    if not lacking or not pinned.digest or context.lock is None:
        return pinned
    index = context.defaults.python_packages
    entry = context.lock.packages.get(lock_data.packages_key(image.parse(folded.fields["image"]), lacking))
    if entry is None or (entry.python, entry.machine) != (index.python, index.machine):
        names = ", ".join(name for name, _ in lacking)
        context.unpinned.setdefault(f"packages {names} for {pinned.display}", folded.origin["image"])
        return pinned
    return replace(pinned, derived_packages=entry.derived_packages)


def _file(folded: MergedService, engine: Engine, context: Context) -> str:
    file = str(folded.fields.get("file", ""))
    if file and not engine.takes_file:
        takers = ", ".join(name for name in engines.names() if engines.get(name).takes_file)
        message = f"'file' is not supported by {engine.title}, which loads the whole repository"
        diagnostic = Diagnostic(
            folded.origin["file"], message, f"engine: {takers}", "remove 'file:'", code="yaml-invalid-value"
        )
        context.diagnostics.append(diagnostic)
    if engine.takes_file and not file:
        message = f"the service does not name the file of {folded.fields['model']} to serve"
        expected = "'file:' with a file name or a pattern that matches one model of the repository"
        hint = 'add, for example, file: "*Q4_K_M.gguf"'
        context.diagnostics.append(
            Diagnostic(folded.origin["model"], message, expected, hint, code="yaml-invalid-value")
        )
    return file


def _weights(repo: str, revision: str, place: str, context: Context, file: str = "") -> Weights:
    if context.lock is None:
        return Weights(repo, revision, file=file)
    found = lock_data.find_model(context.lock, repo, revision, file)
    if found is None:
        at = f" at {revision}" if revision else ""
        context.unpinned.setdefault(f"model {repo}{at}{f' {file}' if file else ''}", place)
        return Weights(repo, revision, file=file)
    return found


def _drafters(folded: MergedService, engine: Engine, context: Context) -> tuple[Weights, ...]:
    return tuple(
        _weights(extra.repo, extra.revision, folded.origin[f"flags.{extra.flag}"], context)
        for extra in engine.extra_models(folded.flags)
    )


def _container(values: dict[str, Any]) -> Container:
    mounts = tuple(Mount(**mount) for mount in values.get("mounts", ()))
    mappings = {name: dict(sorted(one.items())) for name, one in values.items() if isinstance(one, Mapping)}
    return Container(**{**values, **mappings, "mounts": mounts})


def _container_diagnostics(container: Container, folded: MergedService) -> list[Diagnostic]:
    """Return what Docker would refuse or ignore."""
    diagnostics = [
        Diagnostic(
            folded.origin[f"container.mounts.{mount.target}"],
            f"{mount.target} is where sparkfleet mounts the {owner}",
            "another target",
            f"use another target, for example /data; or set '{field}: {mount.source}' in the host file",
            code="mount-target-taken",
        )
        for mount in container.mounts
        for target, owner, field in (
            (MODELS_IN_CONTAINER, "model store", "models_dir"),
            (_HUB, "staged models", "models_dir"),
            (CACHE_IN_CONTAINER, "compile cache", "cache_dir"),
        )
        if mount.target.rstrip("/") == target or (target == _HUB and mount.target.startswith(f"{_HUB}/"))
    ]
    if container.ports and container.network == "host":
        message = "'container.ports' has no effect: with 'network: host' every port is the Spark's own"
        hint = "remove it ('port' is the API's port), or set 'network: bridge'"
        place = folded.origin["container.ports"]
        diagnostics.append(Diagnostic(place, message, "network: bridge", hint, code="yaml-invalid-value"))
    return diagnostics


def _gate(folded: MergedService, engine: Engine, context: Context) -> Gate:
    task = Task(folded.gate.get("task") or (Task.CHAT if Task.CHAT in engine.tasks else min(engine.tasks)))
    _check_task(task, folded, engine, context)
    gate = Gate(task=task)
    written = folded.gate.get("timeout")
    if written is not None:
        timeout = seconds(written)
        if timeout is None:
            context.diagnostics.append(
                Diagnostic(
                    folded.origin["gate.timeout"],
                    f"'gate.timeout' is '{written}'",
                    "a duration: 30m, 1h30m, 1800s or a number of seconds",
                    "change the value",
                    code="yaml-invalid-value",
                )
            )
        else:
            gate = replace(gate, timeout_s=timeout)
    if "prompt" in folded.gate:
        # The default answer does not apply to another prompt; without one, any answer passes.
        gate = replace(gate, prompt=folded.gate["prompt"], expect="")
    if task is Task.EMBEDDING:
        return replace(gate, expect="", expect_dimensions=folded.gate.get("expect_dimensions", 0))
    if "expect" in folded.gate:
        gate = replace(gate, expect=folded.gate["expect"])
    return replace(gate, speculative=engine.is_speculative(folded.flags))


def _check_task(task: Task, folded: MergedService, engine: Engine, context: Context) -> None:
    """Report a task that the engine has no request for, and an expectation of another task beside it.

    An expectation in another file is a default for services of its task.
    """
    expectation, of = ("expect_dimensions", "embedding")
    if task is Task.EMBEDDING:
        expectation, of = ("expect", "chat or completion")
    task_file, expectation_file = (
        folded.origin.get(f"gate.{name}", "").rpartition(":")[0] for name in ("task", expectation)
    )
    if task not in engine.tasks:
        context.diagnostics.append(
            Diagnostic(
                folded.origin["gate.task"],
                f"'gate.task' is '{task}', and the readiness gate has no such request to {engine.title}",
                f"one of: {', '.join(sorted(engine.tasks))}",
                "change the value",
                code="gate-task-unsupported",
            )
        )
    elif expectation in folded.gate and task_file in {expectation_file, ""}:
        context.diagnostics.append(
            Diagnostic(
                folded.origin[f"gate.{expectation}"],
                f"'gate.{expectation}' does not apply to 'task: {task}'",
                f"{of} as 'gate.task'",
                "remove it, or change the task",
                code="gate-expectation-mismatch",
            )
        )


def _name_of(repo: str) -> str:
    return re.sub(r"[^a-z0-9.-]+", "-", repo.rsplit("/", 1)[-1].lower())[:63].strip(".-") or "model"
