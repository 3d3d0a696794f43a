"""Prepare every Spark for serving, without touching running engines.

pyinfra inventories/FLEET.py deploys/prepare.py --dry   # the plan
pyinfra inventories/FLEET.py deploys/prepare.py         # converge
"""

from sparkfleet.fleet.operations import host, plan
from sparkfleet.plan.model import Step

plan.show(Step.USER_DEPLOY, Step.DOCKER, Step.HOST)

host.prepare(name="Host: Docker, programs, valve and directories")
