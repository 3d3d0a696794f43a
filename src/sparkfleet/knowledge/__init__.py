"""Knowledge: the data files that ``sparkfleet knowledge update`` replaces, without a new sparkfleet.

``archive`` reads an update from a directory, file or URL, ``validation`` reads each of its files as the
commands do, ``store`` keeps updates and says which one is used.
"""
