"""What all unit tests share: none changes a file outside its temporary directory."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.write_protection import WriteProtection, install

_PROTECTION = pytest.StashKey[WriteProtection]()


def _protected(item: pytest.Item) -> Generator[None, object, object]:
    if _PROTECTION not in item.config.stash:
        factory: pytest.TempPathFactory = item.config._tmp_path_factory  # type: ignore[attr-defined]
        item.config.stash[_PROTECTION] = install(factory.getbasetemp())
    protection = item.config.stash[_PROTECTION]
    try:
        with protection.watching():
            return (yield)
    finally:
        if violations := protection.take():
            pytest.fail(
                "changed files outside its temporary directory: " + ", ".join(violations), pytrace=False
            )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Watch the fixtures' setup."""
    return (yield from _protected(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Watch the test itself."""
    return (yield from _protected(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Watch the fixtures' teardown."""
    return (yield from _protected(item))
