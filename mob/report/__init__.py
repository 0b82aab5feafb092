"""One file of HTML to look back on a mob with, offline."""
