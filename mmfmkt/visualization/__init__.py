"""Pages that show what runs gave."""
