"""Data sets. One file a data set, one row schema, splits by content."""
