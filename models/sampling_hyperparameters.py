"""What can be set about the choice of negatives, for every model that takes any; from the standard library alone."""

from __future__ import annotations

from dataclasses import dataclass

from models.hyperparameter_checks import HyperparameterError, check_choice, check_range

KINDS = ("uniform", "degree", "self_adversarial", "nscaching", "asa")


@dataclass(frozen=True)
class SamplingHyperparameters:
    """How negatives are chosen: models/learning/samplers.py says what each kind does."""

    kind: str = "uniform"  # uniform, degree, self_adversarial, nscaching or asa
    pool: int = 100  # candidates that are scored for a choice among them; uniform and degree need none
    temperature: float = 1.0  # of self_adversarial
    # mu of asa, in the score that the model takes: a probability (RelGNN), or a distance (TransE, KQGC)
    margin: float = 0.1
    decay: str = "constant"  # of mu, as the training goes on: constant, linear or exponential
    final_margin_share: float = 0.1  # of mu that is left in the last epoch, where it decays

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        check_choice("decay", self.decay, ("constant", "linear", "exponential"))
        check_range("pool", self.pool, 1, 1_000_000)
        check_range("margin", self.margin, 0)
        check_range("temperature", self.temperature, 0)
        check_range("final_margin_share", self.final_margin_share, 0, 1, open_minimum=True)

    @property
    def looks_at_scores(self) -> bool:
        """Whether candidates have to be scored before any is chosen."""
        return self.kind not in ("uniform", "degree")

    def check_negatives(self, negatives: int) -> None:
        """HyperparameterError unless so many can be chosen of the pool."""
        if self.looks_at_scores and self.pool < negatives:
            expected = f"at least negatives, which is {negatives!r:.300}"
            raise HyperparameterError(f"sampling.pool is {self.pool!r:.300}; expected {expected}")

    def margin_at(self, passed: float) -> float:
        """mu when a share `passed` of the training, 0 to 1, is over."""
        if self.decay == "linear":
            return self.margin * (1 + (self.final_margin_share - 1) * passed)
        return self.margin * self.final_margin_share**passed if self.decay == "exponential" else self.margin
