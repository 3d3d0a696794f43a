"""``sparkfleet catalog``: the recipes, listed and shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparkfleet import terminal
from sparkfleet.cli import arguments, completers, output

if TYPE_CHECKING:
    from sparkfleet.catalog.load import Catalog
    from sparkfleet.config.models import Recipe

_FLEET = click.option(
    "--fleet",
    "inventory",
    type=click.Path(path_type=Path),
    shell_complete=completers.inventories,
    help="Include the recipes of this fleet (inventories/X.py).",
)


@click.group(invoke_without_command=True)
@click.pass_context
def catalog(context: click.Context) -> None:
    """List and show recipes; `sparkfleet catalog` alone lists them."""
    if context.invoked_subcommand is None:
        context.invoke(list_recipes)


@catalog.command("list")
@_FLEET
@click.option("--max-gib", type=float, metavar="GIB", help="Maximum size of the weights.")
@click.option("--min-context", type=int, metavar="TOKENS", help="Minimum native context length.")
@click.option("--quantization", metavar="KIND", help="For example nvfp4, fp8, mxfp4, bf16.")
@click.option("--modality", metavar="KIND", help="For example image, audio, video.")
@click.option("--sparks", type=int, metavar="N", help="Maximum number of Sparks.")
@click.option("--all", "show_all", is_flag=True, help="Include templates: recipes without a model.")
@arguments.JSON
def list_recipes(  # noqa: PLR0917  (click gives each by its name)
    inventory: Path | None,
    max_gib: float | None,
    min_context: int | None,
    quantization: str | None,
    modality: str | None,
    sparks: int | None,
    show_all: bool,
    as_json: bool,
) -> None:
    """List the recipes that match the filters."""
    recipes: Iterable[Recipe] = _catalog(inventory).values()
    if not show_all:
        recipes = [r for r in recipes if r.model is not None]
    if max_gib is not None:
        recipes = [
            r for r in recipes if r.model_info.weights_gib is not None and r.model_info.weights_gib <= max_gib
        ]
    if min_context is not None:
        recipes = [r for r in recipes if (r.model_info.context or 0) >= min_context]
    if quantization is not None:
        recipes = [r for r in recipes if (r.model_info.quantization or "").lower() == quantization.lower()]
    if modality is not None:
        recipes = [r for r in recipes if modality.lower() in r.model_info.modalities]
    if sparks is not None:
        recipes = [r for r in recipes if r.requires.sparks <= sparks]
    if as_json:
        output.as_json([_data(recipe) for recipe in recipes])
        return
    rows = [_row(recipe) for recipe in recipes]
    if not rows:
        click.echo("no recipe matches the filters", err=True)
    headings = ("recipe", "parameters", "quantization", "weights", "context", "status", "requires")
    output.table(headings, rows)


@catalog.command()
@click.argument("name", shell_complete=completers.recipes)
@_FLEET
@arguments.JSON
def show(name: str, inventory: Path | None, as_json: bool) -> None:
    """Show one recipe: model, image, status, flags, limitations, notes and links."""
    recipes = _catalog(inventory)
    recipe = recipes.recipe(name)
    if as_json:
        output.as_json(_data(recipe))
        return
    terminal.echo_page(_page(recipe, recipes.where(name).rpartition(":")[0]))


def _catalog(inventory: Path | None) -> Catalog:
    from sparkfleet.catalog.load import Catalog  # noqa: PLC0415
    from sparkfleet.config import load  # noqa: PLC0415

    return Catalog.of(load.fleet_paths(inventory).recipes if inventory else None)


def _data(recipe: Recipe) -> dict[str, Any]:
    return {**recipe.model_dump(mode="json", exclude_defaults=True), "status": recipe.status}


def _row(recipe: Recipe) -> tuple[str, ...]:
    model_info = recipe.model_info
    return (
        recipe.recipe,
        _short_parameters(recipe),
        model_info.quantization or "?",
        f"{model_info.weights_gib:g} GiB" if model_info.weights_gib is not None else "?",
        _tokens(model_info.context),
        recipe.status,
        _requires(recipe),
    )


def _parameters(recipe: Recipe) -> str:
    model_info = recipe.model_info
    if model_info.parameters_b is None:
        return "?"
    active = (
        f", {model_info.active_b:g}B active"
        if model_info.active_b not in (None, model_info.parameters_b)
        else ""
    )
    return f"{model_info.parameters_b:g}B{active}"


def _short_parameters(recipe: Recipe) -> str:
    """Return the parameters as names of models have them: ``35B-A3B``."""
    return re.sub(r", (\S+) active", r"-A\1", _parameters(recipe))


def _tokens(count: int | None) -> str:
    if count is None:
        return "?"
    return f"{count // 1024}K" if count % 1024 == 0 else str(count)


def _requires(recipe: Recipe) -> str:
    from sparkfleet import engines  # noqa: PLC0415

    requires = recipe.requires
    engine = engines.get(recipe.engine or engines.DEFAULT)
    parts = [f"{engine.title} {requires.engine}"] if requires.engine else []
    parts += ["HF token"] if requires.gated else []
    parts += [f"{requires.sparks} Sparks"] if requires.sparks > 1 else []
    parts += sorted(requires.packages)
    return ", ".join(parts)


def _page(recipe: Recipe, file: str) -> str:
    model_info = recipe.model_info
    fields = {
        "model": f"{recipe.model} @ {recipe.revision}" if recipe.revision else recipe.model or "",
        "model file": recipe.file or "",
        "engine": recipe.engine or "",
        "image": recipe.image,
        "parameters": _parameters(recipe),
        "quantization": model_info.quantization or "",
        "weights": f"{model_info.weights_gib:g} GiB" if model_info.weights_gib is not None else "",
        "context": f"{model_info.context} tokens" if model_info.context else "",
        "modalities": ", ".join(model_info.modalities),
        "license": model_info.license or "",
        "requires": _requires(recipe),
        "extends": recipe.extends or "",
        "status": f"{recipe.status} ({_STATUS[recipe.status]})",
        "source": recipe.source,
        "file": file,
    }
    lines = [f"{recipe.recipe}: {recipe.title}", ""]
    lines += [f"  {label:<13} {value}" for label, value in fields.items() if value]
    lines += _block("flags", recipe.flags) + _block("env", recipe.env)
    for title, texts in (
        ("limitations", recipe.limitations),
        ("notes", recipe.notes),
        ("links", recipe.links),
    ):
        lines += ["", title, *(f"  - {text}" for text in texts)] if texts else []
    return "\n".join(lines)


_STATUS = {
    "tested": "on a Spark",
    "documented": "by the source, not tested here",
    "derived": "from similar deployments, not tested",
}


def _block(title: str, values: dict[str, Any]) -> list[str]:
    if not values:
        return []
    return ["", title] + [
        f"  {name}: {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in values.items()
    ]
