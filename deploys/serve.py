"""Every Spark serves what its host file declares: plan, prepare, stage, swap, prove.

pyinfra inventories/lab.py deploys/serve.py --dry     # the plan
pyinfra inventories/lab.py deploys/serve.py           # converge
"""

from sparkfleet.fleet.operations import fabric, host, image, plan, service, weights

plan.show()

host.prepared(name="Docker where declared, programs, valve and directories")
fabric.linked(name="Links to the other Sparks")
image.present(name="Images by digest")
weights.complete(name="Weights at their commits")
service.served(name="Services, each through its gate")
