"""Every model file of every Spark has the content that the lock file says: read and hashed where that is not
known.

pyinfra inventories/lab.py deploys/verify.py --dry                      # what is wrong, what would be read
pyinfra inventories/lab.py deploys/verify.py                            # read and hash; engines keep serving
pyinfra inventories/lab.py deploys/verify.py --data verify_again=yes    # read all of it once more
"""

from sparkfleet.fleet.operations import host, plan, verification
from sparkfleet.plan.model import Step

plan.show(Step.HOST, Step.VERIFY)

host.prepared(name="Programs")
verification.hashed(name="Models: verify files by hash")
