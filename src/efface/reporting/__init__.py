"""Reports: the HTML page of an erasure, Markdown tables, and image grids."""
