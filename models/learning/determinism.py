"""How torch repeats itself bit by bit, in this process and in the next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def deterministic_kernels(wanted: bool) -> Iterator[None]:
    """Within, where `wanted`, torch's results do not depend on the order of its threads, and it has one on the CPU.

    The one thread is for repeats in other processes: how BLAS splits a product may differ from one to the next.
    """
    if not wanted:  # torch's switch loads its compiler, whichever way it is turned
        yield
        return
    before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads)
