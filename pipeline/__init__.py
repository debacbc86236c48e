"""The library behind the stages; imports flow downward only and never reach `stages`."""
