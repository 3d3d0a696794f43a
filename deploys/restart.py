"""Restart services through their readiness gate, each as it served last; start those that are stopped.

pyinfra inventories/FLEET.py deploys/restart.py --dry                                   # the plan
pyinfra inventories/FLEET.py deploys/restart.py --limit spark-01                        # all of its services
pyinfra inventories/FLEET.py deploys/restart.py --data service_target=spark-01/NAME     # one of them
"""

from sparkfleet.fleet.operations import host, service, service_commands
from sparkfleet.plan.model import Command

service_commands.show(Command.RESTART)

host.prepare(name="Programs")
service.roll_out(name="Services: restart, each through its readiness gate")
