"""What everything stands on: paths, files, hashing, process and machine, errors."""
