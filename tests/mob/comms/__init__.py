"""Tests of `mob.comms`."""
