"""What tools/coverage_sweep.py is made of."""
