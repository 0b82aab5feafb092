"""Comms: who may send to whom, mailboxes, requests, and the tools over them.

Owns: nothing itself; one noun a file. Must not: run a turn (`mob.activation` does).
"""
