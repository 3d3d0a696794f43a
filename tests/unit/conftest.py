"""What all unit tests share: none changes a file outside its temporary directory."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.guard import Guard, install

_GUARD = pytest.StashKey[Guard]()


def _guarded(item: pytest.Item) -> Generator[None, object, object]:
    if _GUARD not in item.config.stash:
        factory: pytest.TempPathFactory = item.config._tmp_path_factory  # type: ignore[attr-defined]
        item.config.stash[_GUARD] = install(factory.getbasetemp())
    guard = item.config.stash[_GUARD]
    try:
        with guard.watching():
            return (yield)
    finally:
        if violations := guard.take():
            pytest.fail(
                "changed files outside its temporary directory: " + ", ".join(violations), pytrace=False
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Watch the fixtures' setup."""
    return (yield from _guarded(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Watch the test itself."""
    return (yield from _guarded(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Watch the fixtures' teardown."""
    return (yield from _guarded(item))
