"""Advice before the work is done: how long it takes and what it will come to."""
