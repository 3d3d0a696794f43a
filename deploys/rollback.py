"""Go back to a generation that a Spark keeps, through its readiness gate; the fleet's files are not used.

pyinfra inventories/FLEET.py deploys/rollback.py --dry                                        # the plan
pyinfra inventories/FLEET.py deploys/rollback.py --data service_target=HOST/NAME              # one service
pyinfra inventories/FLEET.py deploys/rollback.py --data service_target=HOST/NAME --data rollback_to=GENERATION
"""

from sparkfleet.fleet.operations import host, rollback, service

rollback.show()

host.prepare(name="Programs")
service.roll_out(name="Services: roll back, each through its readiness gate")
