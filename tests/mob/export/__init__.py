"""Tests of `mob.export`."""
