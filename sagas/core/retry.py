"""How often, and after which pauses, something is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from sagas.errors import DeclarationError

__all__ = ["NO_RETRY", "UNDO_RETRY", "Retry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A budget of attempts with exponential backoff and jitter.

    The pause after the n-th failed attempt is ``initial * factor ** (n - 1)``, at most ``maximum``, of which a
    random part up to ``jitter`` is taken off, so that many sagas that failed together do not come back together
    (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Attributes:
        attempts: How many in all; ``None`` for as many as it takes.
        initial: The first pause, in seconds.
        factor: By how much each pause is longer than the one before.
        maximum: The longest pause, in seconds.
        jitter: The largest part of a pause that chance takes off, 0 to 1.
    """

    attempts: int | None = 3
    initial: float = 0.1
    factor: float = 2.0
    maximum: float = 60.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        """Refuses numbers that make no policy.

        Raises:
            DeclarationError: A field is out of its range.
        """
        if self.attempts is not None and self.attempts < 1:
            raise DeclarationError(f"Retry(attempts={self.attempts}): at least one attempt is needed")
        if not (self.initial >= 0 and self.maximum >= 0 and self.factor >= 1 and 0 <= self.jitter <= 1):
            raise DeclarationError(f"{self}: initial and maximum are >= 0, factor is >= 1, jitter is 0 to 1")

    def pause_after(self, attempt: int, chance: float) -> float | None:
        """Says how long to wait after a failed attempt.

        Args:
            attempt: Which attempt failed, from 1.
            chance: A random number in [0, 1).

        Returns:
            Seconds, or ``None`` if the budget is used up.
        """
        if self.attempts is not None and attempt >= self.attempts:
            return None
        try:
            pause = min(self.maximum, self.initial * self.factor ** (attempt - 1))
        except OverflowError:  # the power no longer fits a float, so the maximum was reached long ago
            pause = self.maximum if self.initial else 0.0
        return pause * (1 - self.jitter * chance)


# A step may not be idempotent, so trying it again has to be asked for.
NO_RETRY = Retry(attempts=1)
UNDO_RETRY = Retry(attempts=10)
