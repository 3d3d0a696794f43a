"""pyinfra reads this first: refuse words that would be misunderstood, before any host is contacted."""

from sparkfleet.fleet.run.command_line import guard

guard()
