"""Checks, recipes and reports of coverage_sweep.py."""
