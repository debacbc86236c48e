"""What people start, and what starts a stage."""
