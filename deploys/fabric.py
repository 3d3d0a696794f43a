"""Configure the fabric links of every cluster: addresses and MTU, tested end to end, reverted on failure.

pyinfra inventories/FLEET.py deploys/fabric.py --dry   # the plan
pyinfra inventories/FLEET.py deploys/fabric.py         # converge
"""

from sparkfleet.fleet.operations import fabric, host, plan
from sparkfleet.plan.model import Step

plan.show(Step.DOCKER, Step.HOST, Step.FABRIC)

host.prepare(name="Host: Docker, programs, valve and directories")
fabric.configure(name="Fabric: links to the other Sparks")
