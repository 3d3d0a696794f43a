"""The Sparks of every cluster are linked: addresses, MTU, proved from end to end, or put back as it was.

pyinfra inventories/lab.py deploys/fabric.py --dry   # the plan
pyinfra inventories/lab.py deploys/fabric.py         # converge
"""

from sparkfleet.fleet.operations import fabric, host, plan
from sparkfleet.plan.model import Step

plan.show(Step.DOCKER, Step.HOST, Step.FABRIC)

host.prepared(name="Docker where declared, programs, valve and directories")
fabric.linked(name="Links to the other Sparks")
