"""Network families, one file each, dimension-generic."""
