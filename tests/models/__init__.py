"""Tests of the model clients, structured output and the registry."""
