"""A service of a cluster is never started on one of its Sparks by itself."""

from dataclasses import replace

from sparkfleet.plan.compute import host_plan
from sparkfleet.plan.model import HostState
from sparkfleet.spec.resolved import Member
from tests.unit.plan import fake_spark
from tests.unit.plan.test_compute import HOST

MEMBER = replace(HOST, member=Member("pair", 1, ("spark-00", "spark-01"), "mp", service="nano"))


def test_the_service_of_a_cluster_is_blocked_on_its_member():
    plan = host_plan(MEMBER, fake_spark.fresh(MEMBER))
    assert plan.state is HostState.BLOCKED
    assert [entry.subject for entry in plan.entries if entry.blocked] == ["nano"]


def test_a_members_own_service_is_not_blocked():
    own = replace(MEMBER, member=replace(MEMBER.member, service="wide"))
    assert host_plan(own, fake_spark.fresh(own)).state is HostState.CHANGE
