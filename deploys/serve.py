"""Converge every Spark to its host file: plan, prepare, stage, roll out, verify.

pyinfra inventories/FLEET.py deploys/serve.py --dry     # the plan
pyinfra inventories/FLEET.py deploys/serve.py           # converge
"""

from sparkfleet.fleet.operations import fabric, host, image, plan, service, weights

plan.show()

host.prepare(name="Host: Docker, programs, valve and directories")
fabric.configure(name="Fabric: links to the other Sparks")
image.fetch(name="Images: pull by digest")
weights.fetch(name="Weights: download the locked commits")
service.roll_out(name="Services: roll out, each through its readiness gate")
