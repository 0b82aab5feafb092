"""Tests of the parts that the examples ship."""
