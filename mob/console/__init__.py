"""What people see of a mob that runs, as data: rows, a model of them, a picture of the model.

Owns: the package; `mob run`, `mob watch` and the socket of a mob share it. Must not: draw on a
terminal (the command line does).
"""
