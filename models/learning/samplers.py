"""Which of a batch's candidates are its negatives: the samplers, for every model that learns from broken triples.

A model draws a pool of candidates and scores all of them at once, without gradients; `choose` picks from the scores.
Qin et al., AAAI 2021 (RelGNN), section 3.2. With s a true triple's score and s' a candidate's:

    uniform           any candidate
    degree            any candidate; those of many edges are more often in the pool (`Pools.by_degree`)
    self_adversarial  with the probability of a softmax of temperature · s' (Sun et al. 2019, Eq. 4)
    nscaching         argmax s'                Eq. 10, of a pool as in NSCaching (Zhang et al. 2019)
    asa               argmin |s - s' - μ|      Eq. 11, μ constant, or falling linearly or exponentially

Legend: B true triples, K candidates each, J of them kept. A high score means likely.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.sampling_hyperparameters import SamplingHyperparameters


def choose(
    sampling: SamplingHyperparameters,
    keep: int,
    true_B: Tensor,
    broken_BK: Tensor,
    counts_BK: Tensor,
    random: torch.Generator,
    passed: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """(places of `keep` candidates (B, J), counts (B, J)); J is K where the pool is smaller.

    counts_BK: bool, False where a broken triple is true after all: such a candidate is chosen only where no other is
    left, and counts nothing then. No place is chosen twice. random: on the scores' device. passed: the share of the
    training that is over. Raises ValueError unless the shapes are (B,), (B, K), (B, K).
    """
    if true_B.dim() != 1 or broken_BK.shape[:1] != true_B.shape or counts_BK.shape != broken_BK.shape:
        found = f"scores of shapes {tuple(true_B.shape)}, {tuple(broken_BK.shape)}, counts {tuple(counts_BK.shape)}"
        raise ValueError(f"{found}; expected (B,), (B, K), (B, K)")
    wanted_BK = _wanted(sampling, true_B.detach(), broken_BK.detach(), random, passed)
    keep = min(keep, wanted_BK.shape[1])
    able_BK = torch.where(counts_BK, wanted_BK, -torch.inf)
    # the highest alone is found in three quarters of topk's time
    places_BJ = (able_BK.max(dim=1, keepdim=True) if keep == 1 else able_BK.topk(keep, dim=1)).indices
    return places_BJ, counts_BK.gather(1, places_BJ)


def _wanted(
    sampling: SamplingHyperparameters, true_B: Tensor, broken_BK: Tensor, random: torch.Generator, passed: float
) -> Tensor:
    """(B, K): the higher, the sooner chosen."""
    if sampling.kind == "nscaching":
        return broken_BK  # Eq. 10
    if sampling.kind == "asa":
        return (broken_BK - (true_B - sampling.margin_at(passed))[:, None]).abs_().neg_()  # Eq. 11
    uniform_BK = torch.rand(broken_BK.shape, generator=random, device=broken_BK.device)
    if sampling.kind == "self_adversarial":  # the highest of scores with Gumbel noise are drawn by their softmax
        return sampling.temperature * broken_BK - torch.log(-torch.log(uniform_BK.clamp(1e-20, 1 - 1e-7)))
    return uniform_BK


def hardness(true_B: Tensor, broken_BJ: Tensor, counts_BJ: Tensor) -> tuple[float, float, int]:
    """(sum of s - s' over the chosen that count, how many of them score above their true triple, how many count)."""
    gaps_BJ = (true_B[:, None] - broken_BJ).detach()
    n_above = int(((gaps_BJ < 0) & counts_BJ).sum())
    return float((gaps_BJ * counts_BJ).sum()), n_above, int(counts_BJ.sum())
