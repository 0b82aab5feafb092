"""What a mob's journal holds, for other programs: tables, files, spans of time."""
