"""What `feedrank replay` and `feedrank jobs` share: readers of files, plans, progress, carrying a job out."""
