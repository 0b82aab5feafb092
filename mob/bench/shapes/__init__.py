"""The shapes of workloads, one file each; `mob.bench.registry` lists them.

A shape is in two halves that know nothing of each other: an oracle that says from the plan alone
what must come out, and a run over the public handle.
"""
