"""What must become of every record, and the rows that must come out."""
