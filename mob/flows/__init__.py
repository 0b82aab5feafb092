"""Flows: graphs of steps that members work on, as data, and their runs (docs/flows.md)."""
