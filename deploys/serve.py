"""Converge every Spark to its host file: plan, prepare, stage, roll out, verify.

pyinfra inventories/lab.py deploys/serve.py --dry     # the plan
pyinfra inventories/lab.py deploys/serve.py           # converge
"""

from sparkfleet.fleet.operations import fabric, host, image, plan, service, weights

plan.show()

host.prepared(name="Host: Docker, programs, valve and directories")
fabric.linked(name="Fabric: links to the other Sparks")
image.present(name="Images: pull by digest")
weights.complete(name="Weights: download the locked commits")
service.served(name="Services: roll out, each through its readiness gate")
