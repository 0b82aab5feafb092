"""Tests of `mob.report`."""
