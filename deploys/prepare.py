"""Every Spark is made ready to serve, and what it serves is not touched.

pyinfra inventories/lab.py deploys/prepare.py --dry   # the plan
pyinfra inventories/lab.py deploys/prepare.py         # converge
"""

from sparkfleet.fleet.operations import host, plan
from sparkfleet.plan.model import Step

plan.show(Step.USER_DEPLOY, Step.DOCKER, Step.HOST)

host.prepared(name="Docker where declared, programs, valve and directories")
