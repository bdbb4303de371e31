"""Reading and writing scans and results."""
