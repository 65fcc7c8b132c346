"""The parts of ``bothways demo``: what it learns from, how its time is shared out, what it trains and compares."""
