from sparkfleet.inventory import load

sparks = load(__file__)
