"""Start stopped services through their readiness gate, each as it served last.

pyinfra inventories/FLEET.py deploys/start.py --dry                                     # the plan
pyinfra inventories/FLEET.py deploys/start.py --limit spark-01                          # all of its services
pyinfra inventories/FLEET.py deploys/start.py --data service_target=spark-01/NAME       # one of them
"""

from sparkfleet.fleet.operations import host, service, service_commands
from sparkfleet.plan.model import Command

service_commands.show(Command.START)

host.prepare(name="Programs")
service.roll_out(name="Services: start, each through its readiness gate")
