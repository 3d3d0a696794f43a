"""Programs that run on a Spark as root. Standard library only: a Spark needs python3 and nothing of ours.

They travel as one zipapp (``/usr/local/lib/sparkfleet/sparkfleet.pyz``), see ``sparkfleet.zipapp``.
"""
