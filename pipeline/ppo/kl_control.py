"""The price of KL: fixed, or steered towards a target."""


class KLController:
    """Hold kl_coef fixed, or steer it so that the KL of a completion nears `target` nats.

    Ziegler et al. 2019, section 2.2: e = clip(KL / target - 1, -0.2, 0.2), coef <- coef (1 + e n / horizon) after n
    completions. A target of None keeps the coefficient.
    """

    def __init__(self, coef: float, target: float | None, horizon: int) -> None:
        self.coef = coef
        self._target = target
        self._horizon = horizon

    def update(self, kl: float, completions: int) -> None:
        """Take note of the mean KL (nats a completion) of a rollout."""
        if self._target is not None:
            error = min(max(kl / self._target - 1, -0.2), 0.2)
            self.coef *= 1 + error * completions / self._horizon
