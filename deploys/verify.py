"""Verify every model file of every Spark against the hashes in the lock file.

pyinfra inventories/FLEET.py deploys/verify.py --dry                      # wrong files, and files to read
pyinfra inventories/FLEET.py deploys/verify.py                            # read and hash what is not verified
pyinfra inventories/FLEET.py deploys/verify.py --data verify_again=yes    # read all files again
"""

from sparkfleet.fleet.operations import host, plan, verification
from sparkfleet.plan.model import Step

plan.show(Step.HOST, Step.VERIFY)

host.prepare(name="Programs")
verification.verify(name="Models: verify files by hash")
