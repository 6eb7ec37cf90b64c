"""The parts of accuracy.py: what to run, running it, what it means."""
