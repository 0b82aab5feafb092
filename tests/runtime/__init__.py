"""Tests of one session and its children; `fakes` has what several of them share."""
