"""HTML reports of training runs."""
