"""Loaded by pyinfra first: rejects misleading arguments before any host is contacted."""

from sparkfleet.fleet.run.command_line import configure

configure()
