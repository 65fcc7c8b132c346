"""Runs by name: functions that return an ``Experiment``."""
