"""TransE's training as a slow loop over triples, written from Eq. 1, Eq. 2 and Sun et al. 2019, Eq. 5."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.models.reference import Vector, distance


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A true triple with its broken ones: which end is broken, who stands in, and who of them makes a false triple."""

    head: int
    relation: int
    tail: int
    breaks_tail: bool
    stand_ins: Sequence[int]
    false: Sequence[bool]

    @property
    def ends(self) -> tuple[int, int, float]:
        """(the end that stays, the end that is broken, the sign of the relation in the query)."""
        return (self.head, self.tail, 1.0) if self.breaks_tail else (self.tail, self.head, -1.0)


def pull(x: Vector, order: str) -> Vector:
    """d‖x‖ / dx."""
    if order == "l1":
        return np.array([float(np.sign(value)) for value in x])
    return x / distance(x, "l2") if distance(x, "l2") > 0 else np.zeros(len(x))


def transe_weights(
    true: float, broken: Sequence[float], false: Sequence[bool], loss: str, margin: float, temperature: float
) -> tuple[float, float, list[float]]:
    """(loss, d loss / d true distance, d loss / d each broken distance).

    KQGC Eq. 1, or Sun et al. 2019 Eq. 5 with their weights p held constant.
    """
    if loss == "margin":
        inside = [counts and margin + true - far > 0 for far, counts in zip(broken, false, strict=True)]
        hinges = [margin + true - far for far, within in zip(broken, inside, strict=True) if within]
        return math.fsum(hinges), float(sum(inside)), [-1.0 if within else 0.0 for within in inside]
    share = [math.exp(-temperature * far) if counts else 0.0 for far, counts in zip(broken, false, strict=True)]
    total = math.fsum(share)
    p = [one / total if total > 0 else 0.0 for one in share]
    terms = [one * math.log1p(math.exp(margin - far)) for one, far in zip(p, broken, strict=True)]
    slopes = [-one / (1 + math.exp(far - margin)) for one, far in zip(p, broken, strict=True)]
    return math.log1p(math.exp(true - margin)) + math.fsum(terms), 1 / (1 + math.exp(margin - true)), slopes


@dataclasses.dataclass(frozen=True)
class SlowTransE:
    """TransE's tables, changed chunk by chunk, row by row, in the order in which the compiled engine changes them.

    E (n, d), R (m, d), accE (n,), accR (m,): float64, of this object's own.
    """

    E: np.ndarray
    R: np.ndarray
    accE: np.ndarray
    accR: np.ndarray
    hyper: Any  # TransEHyperparameters

    def update(self, table: np.ndarray, accumulators: np.ndarray, row: int, gradient: Vector) -> None:
        """One step of plain gradient descent or row-wise Adagrad; entities go back to the unit sphere by option."""
        step = self.hyper.learning_rate
        if self.hyper.optimizer == "adagrad":
            square = math.fsum(float(value) ** 2 for value in gradient)
            if square == 0:
                return
            accumulators[row] += square / len(gradient)
            step /= math.sqrt(accumulators[row])
        table[row] = table[row] - step * gradient
        if table is self.E and self.hyper.unit_norm:
            table[row] /= distance(table[row], "l2")

    def weights(self, true: float, broken: Sequence[float], false: Sequence[bool]) -> tuple[float, float, list[float]]:
        hyper = self.hyper
        return transe_weights(true, broken, false, hyper.loss, hyper.margin, hyper.adversarial_temperature)

    def learn_alone(self, lesson: Lesson) -> float:
        """A triple under the margin loss with draws of its own: each stand-in moves before the next is looked at."""
        (anchor, target, sign), r, order = lesson.ends, lesson.relation, self.hyper.norm
        q = self.E[anchor] + sign * self.R[r]
        true, total, summed, within = distance(q - self.E[target], order), 0.0, np.zeros(len(q)), 0.0
        for other, counts in zip(lesson.stand_ins, lesson.false, strict=True):
            difference = q - self.E[other]
            loss, of_true, (of_broken,) = self.weights(true, [distance(difference, order)], [counts])
            if of_true:
                total, within = total + loss, within + of_true
                summed = summed + of_broken * pull(difference, order)
                self.update(self.E, self.accE, other, -of_broken * pull(difference, order))
        if within:
            of_target = within * pull(q - self.E[target], order)
            self.update(self.E, self.accE, target, -of_target)
            self.update(self.E, self.accE, anchor, summed + of_target)
            self.update(self.R, self.accR, r, sign * (summed + of_target))
        return total

    def learn_together(self, lessons: Sequence[Lesson]) -> float:
        """Triples of one relation that break the same end with the same stand-ins: their gradients are summed."""
        r, sign, order = lessons[0].relation, lessons[0].ends[2], self.hyper.norm
        stand_ins = [self.E[other].copy() for other in lessons[0].stand_ins]
        of_others, of_queries, total = [np.zeros(self.E.shape[1]) for _ in stand_ins], [], 0.0
        for lesson in lessons:
            anchor, target, _ = lesson.ends
            q = self.E[anchor] + sign * self.R[r]
            away = q - self.E[target]
            apart = [distance(q - other, order) for other in stand_ins]
            loss, of_true, of_broken = self.weights(distance(away, order), apart, lesson.false)
            total, of_query = total + loss, of_true * pull(away, order)
            if of_true:
                self.update(self.E, self.accE, target, -of_query)
            for j, (slope, other) in enumerate(zip(of_broken, stand_ins, strict=True)):
                of_query = of_query + slope * pull(q - other, order)
                of_others[j] = of_others[j] - slope * pull(q - other, order)
            of_queries.append(of_query)
        for lesson, gradient in zip(lessons, of_queries, strict=True):
            self.update(self.E, self.accE, lesson.ends[0], gradient)
        for other, gradient in zip(lessons[0].stand_ins, of_others, strict=True):
            self.update(self.E, self.accE, other, gradient)
        self.update(self.R, self.accR, r, sign * np.sum(of_queries, axis=0))
        return total
