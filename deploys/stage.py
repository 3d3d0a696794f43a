"""Images and weights are brought to every Spark while it serves what it serves.

pyinfra inventories/lab.py deploys/stage.py --dry     # the plan
pyinfra inventories/lab.py deploys/stage.py           # fetch
"""

from sparkfleet.fleet.operations import host, image, plan, weights
from sparkfleet.plan.model import Step

plan.show(Step.USER_DEPLOY, Step.DOCKER, Step.HOST, Step.IMAGE, Step.WEIGHTS)

host.prepared(name="Docker where declared, programs, valve and directories")
image.present(name="Images by digest")
weights.complete(name="Weights at their commits")
