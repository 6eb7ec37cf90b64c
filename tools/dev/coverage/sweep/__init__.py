"""Checks, small training configs and reports of coverage_sweep.py."""
