"""Recipes: the shipped ones, read on use, and a fleet's own, all read and validated at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sparkfleet import data_files
from sparkfleet.config.merge import flag_name
from sparkfleet.config.models import Recipe
from sparkfleet.config.validate import describe, valid_part, validate
from sparkfleet.config.yaml_file import Document, Path_, parse, read, shown
from sparkfleet.contract.diagnostic import Diagnostic, SparkfleetError
from sparkfleet.errors import user_error
from sparkfleet.suggest import did_you_mean

SHIPPED = Path(__file__).with_name("recipes")
_UPDATED = PurePosixPath("catalog/recipes")

_BY_KEY = ("flags", "env", "container", "gate", "requires", "model_info")
"""Fields that merge by key with the extended recipe; others are replaced."""


@dataclass(frozen=True)
class _Raw:
    """A recipe before validation, merged with the recipes it extends, and the place of each value."""

    data: dict[str, Any]
    places: dict[Path_, str]

    def where(self, path: Path_) -> str:
        while path not in self.places and path:
            path = path[:-1]
        return self.places[path]


@dataclass
class Catalog(Mapping[str, Recipe]):
    """All recipes by name. Reading one may raise ``SparkfleetError``; shipped ones are read on use."""

    files: dict[str, tuple[Path | None, str]]
    """Name -> path (None: shipped), and the path as shown in errors."""
    diagnostics: list[Diagnostic] = field(default_factory=list)
    """Errors of the fleet's own recipes."""
    _raw: dict[str, _Raw] = field(default_factory=dict)
    _recipes: dict[str, Recipe] = field(default_factory=dict)

    @classmethod
    def of(cls, extra: Path | None = None) -> Catalog:
        """Return the shipped recipes and those of ``extra``; all errors in ``extra`` are raised at once."""
        catalog = cls.read(extra)
        if catalog.diagnostics:
            raise SparkfleetError(*catalog.diagnostics)
        return catalog

    @classmethod
    def read(cls, extra: Path | None = None) -> Catalog:
        """Return the shipped recipes and those of ``extra``, with all errors in ``extra``."""
        files: dict[str, tuple[Path | None, str]] = {
            name: (None, f"catalog/{name}.yaml") for name in _shipped()
        }
        catalog = cls(files)
        if extra is None or not extra.is_dir():
            return catalog
        diagnostics: list[Diagnostic] = []
        own = []
        for path in sorted(extra.iterdir()):
            if path.suffix.lower() not in {".yaml", ".yml"}:
                continue
            diagnostic = _name_diagnostic(path, catalog.files)
            if diagnostic:
                diagnostics.append(diagnostic)
            else:
                own.append(path.stem)
        for name in own:
            files[name] = (extra / f"{name}.yaml", shown(extra / f"{name}.yaml"))
        for name in own:
            try:
                catalog.recipe(name)
            except SparkfleetError as error:
                diagnostics += error.diagnostics
        catalog.diagnostics = [*dict.fromkeys(diagnostics)]
        return catalog

    def names(self) -> list[str]:
        """Return the names of all recipes, sorted."""
        return sorted(self.files)

    def recipe(self, name: str) -> Recipe:
        """Return the recipe, merged with the recipes it extends; ``SparkfleetError`` when there is none."""
        if name not in self.files:
            remedy = did_you_mean(name, self.files, "run `sparkfleet catalog list`")
            raise user_error("recipe-unknown", name, "unknown recipe", "a recipe of the catalog", remedy)
        if name not in self._recipes:
            raw = self._load(name, ())
            self._recipes[name] = validate(Recipe, raw.data, raw.where)
        return self._recipes[name]

    def where(self, name: str, path: Path_ = ()) -> str:
        """Return ``file:line`` of a recipe's value, in its file or in one that it extends."""
        return self._load(name, ()).where(path)

    def __getitem__(self, name: str) -> Recipe:
        """Return the recipe; ``KeyError`` when there is none."""
        if name not in self.files:
            raise KeyError(name)
        return self.recipe(name)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, sorted."""
        return iter(self.names())

    def __len__(self) -> int:
        """Return the number of recipes."""
        return len(self.files)

    def _load(self, name: str, below: tuple[str, ...]) -> _Raw:
        if name in self._raw:
            return self._raw[name]
        path, file = self.files[name]
        document = (
            read(path, file) if path else parse(data_files.read(__package__, f"recipes/{name}.yaml"), file)
        )
        data = document.data
        if not isinstance(data, dict):
            message = f"the file is {describe(data)}"
            hint = "start the file with `recipe: NAME`"
            raise user_error("yaml-invalid-value", document.where(), message, "a mapping", hint)
        if data.get("recipe") != name:
            raise SparkfleetError(*_without_its_name(name, document))
        places = {_normal(place): f"{file}:{line}" for place, line in document.lines.items()}
        data = {key: _normal_flags(value) if key == "flags" else value for key, value in data.items()}
        base = data.get("extends")
        if isinstance(base, str):
            place = document.where(("extends",))
            parent = self._parent(base, (*below, name), place)
            data = _merge(parent.data, data)
            places = {**parent.places, **places}
        self._raw[name] = _Raw(data, places)
        return self._raw[name]

    def _parent(self, base: str, below: tuple[str, ...], place: str) -> _Raw:
        if base in below:
            circle = " -> ".join((*below[below.index(base) :], base))
            message, expected = f"cyclic 'extends': {circle}", "no cycle"
            raise user_error("recipe-extends-invalid", place, message, expected, "remove one 'extends:'")
        if base not in self.files:
            remedy = did_you_mean(base, self.files, "run `sparkfleet catalog list`")
            message = f"'extends' names an unknown recipe: '{base}'"
            raise user_error("recipe-extends-invalid", place, message, "the name of a recipe", remedy)
        return self._load(base, below)


def recipes(extra: Path | None = None) -> Mapping[str, Recipe]:
    """Return all recipes by name: the shipped ones and those of a fleet's ``recipes/``."""
    return Catalog.of(extra)


def _name_diagnostic(path: Path, shipped: Mapping[str, object]) -> Diagnostic | None:
    if path.suffix != ".yaml":
        message = f"the file name ends with '{path.suffix}'"
        remedy = f"mv {shown(path)} {shown(path.with_suffix('.yaml'))}"
        return Diagnostic(shown(path), message, "NAME.yaml", remedy, code="file-name-invalid")
    if path.stem in shipped:
        message = f"the shipped catalog already has a recipe '{path.stem}'"
        return Diagnostic(
            shown(path),
            message,
            "a unique name",
            f"rename the file and add 'extends: {path.stem}'",
            code="recipe-name-taken",
        )
    return None


def _shipped() -> list[str]:
    """Return the names of the shipped recipes and of those that an update added, sorted."""
    updated = data_files.active_update()
    names = [PurePosixPath(name) for name in (updated.names() if updated else ())]
    added = (name.stem for name in names if name.parent == _UPDATED)
    return sorted({*(path.stem for path in SHIPPED.glob("*.yaml")), *added})


def _merge(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    data = {**parent, **child}
    if "source" in child:
        data["links"] = child.get("links", [])
    for name in _BY_KEY:
        if isinstance(parent.get(name), dict) and isinstance(child.get(name), dict):
            data[name] = {**parent[name], **child[name]}
    # null removes a flag or variable of the extended recipe.
    for name in ("flags", "env"):
        if isinstance(data.get(name), dict):
            data[name] = {key: value for key, value in data[name].items() if value is not None}
    return data


def _normal_flags(flags: Any) -> Any:
    return {flag_name(name): value for name, value in flags.items()} if isinstance(flags, dict) else flags


def _normal(place: Path_) -> Path_:
    if len(place) > 1 and place[0] == "flags":
        return ("flags", flag_name(str(place[1])), *place[2:])
    return place


def _without_its_name(name: str, document: Document) -> tuple[Diagnostic, ...]:
    """Return the errors of a file that is not named like its recipe."""
    data = document.data
    message = f"'recipe' is {describe(data['recipe'])}" if "recipe" in data else "missing key 'recipe'"
    diagnostic = Diagnostic(
        document.where(("recipe",)),
        message,
        f"recipe: {name} (the file name without .yaml)",
        "use the same name in both places" if "recipe" in data else f"add 'recipe: {name}'",
        code="recipe-name-invalid",
    )
    if "extends" in data:
        return (diagnostic,)
    return (diagnostic, *valid_part(Recipe, {**data, "recipe": name}, document.where).diagnostics)
