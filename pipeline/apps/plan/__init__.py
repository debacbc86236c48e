"""What an experiment needs, estimated before it starts: parameters, memory, hours. No output depends on it."""
