"""Parts of accuracy.py: tables, costs, results pages and model zoo."""
