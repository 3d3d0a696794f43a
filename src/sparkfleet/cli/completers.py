"""Values that a shell completes: inventories, hosts, clusters, recipes and terms. They never fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from sparkfleet.contract.diagnostic import SparkfleetError

if TYPE_CHECKING:
    import click

Completer = Callable[["click.Context", "click.Parameter", str], list[CompletionItem]]


def _completer(values: Callable[[click.Context], Iterable[str]]) -> Completer:
    """Return a completer of these values; where they cannot be read there is nothing to complete."""

    def complete(
        context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            return [CompletionItem(value) for value in values(context) if value.startswith(incomplete)]
        except (SparkfleetError, OSError):
            return []

    return complete


def _inventory(context: click.Context) -> Path | None:
    """Return the inventory; arguments before an option that lacks its value are not parsed yet."""
    value = context.params.get("inventory") or next(iter(context.args), None)
    return Path(value) if value else None


def _inventories(_context: click.Context) -> list[str]:
    return sorted(str(path) for path in Path("inventories").glob("*.py"))


def _hosts(context: click.Context) -> list[str]:
    from sparkfleet.config import load  # noqa: PLC0415  (only while a host is completed)

    inventory = _inventory(context)
    return [path.stem for path in load.host_files(load.fleet_paths(inventory))] if inventory else []


def _clusters(context: click.Context) -> list[str]:
    from sparkfleet.config import load  # noqa: PLC0415

    inventory = _inventory(context)
    return load.cluster_names(inventory) if inventory else []


def _recipes(context: click.Context) -> list[str]:
    from sparkfleet.catalog.load import Catalog  # noqa: PLC0415
    from sparkfleet.config import load  # noqa: PLC0415

    inventory = _inventory(context)
    return sorted(Catalog.of(load.fleet_paths(inventory).recipes if inventory else None).names())


def _terms(_context: click.Context) -> tuple[str, ...]:
    from sparkfleet import explanations  # noqa: PLC0415

    return explanations.names()


inventories = _completer(_inventories)
hosts = _completer(_hosts)
clusters = _completer(_clusters)
recipes = _completer(_recipes)
terms = _completer(_terms)
