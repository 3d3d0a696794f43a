"""Stop services until they are started by deploys/start.py, also over reboots; of a cluster, all members.

pyinfra inventories/FLEET.py deploys/stop.py --dry                                    # the plan
pyinfra inventories/FLEET.py deploys/stop.py --limit spark-01                           # all of its services
pyinfra inventories/FLEET.py deploys/stop.py --data service_target=spark-01/NAME --data stop_reason="tests"
"""

from sparkfleet.fleet.operations import host, service, service_commands
from sparkfleet.plan.model import Command

service_commands.show(Command.STOP)

host.prepare(name="Programs")
service.roll_out(name="Services: stop")
