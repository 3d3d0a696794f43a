"""Fetch images and weights to every Spark while the running engines keep serving.

pyinfra inventories/FLEET.py deploys/stage.py --dry     # the plan
pyinfra inventories/FLEET.py deploys/stage.py           # fetch
"""

from sparkfleet.fleet.operations import host, image, plan, weights
from sparkfleet.plan.model import Step

plan.show(Step.USER_DEPLOY, Step.DOCKER, Step.HOST, Step.IMAGE, Step.WEIGHTS)

host.prepare(name="Host: Docker, programs, valve and directories")
image.fetch(name="Images: pull by digest")
weights.fetch(name="Weights: download the locked commits")
