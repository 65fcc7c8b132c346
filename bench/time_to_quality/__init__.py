"""The parts of ``time_to_quality.py``: text, arms, the common evaluator, the search and the tables."""
