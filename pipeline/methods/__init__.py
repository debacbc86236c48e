"""Methods: one file or room each, and what they share."""

from pipeline.config.declarations import Method, declared

METHODS: dict[str, Method] = declared(__name__, "METHOD", ("sft", "ppo", "dpo"))
