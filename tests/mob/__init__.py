"""Tests of the mob floor."""
