"""What can be set about HUGT, from the standard library alone."""

from __future__ import annotations

from dataclasses import dataclass

from models.hyperparameter_checks import HyperparameterError, check_choice, check_device, check_range

MOST_PATH = 100  # a path's length is one byte, and two are added
MOST_DAYS = 36_500


@dataclass(frozen=True)
class HUGTHyperparameters:
    """Everything that can be set about HUGT; how much of a history it reads is `sequences.max_length`.

    The defaults are the paper's where it names one and a comment says nothing else.
    """

    width: int = 64  # of every state, d; the paper takes 50 or 300. Vectors have a number more: the item's bias
    layers: int = 2  # L; the paper names none
    heads: int = 4  # m
    # of them, those that hear a history in its order; the others hear it along collaborative edges. All: SASRec
    sequence_heads: int = 2
    head_width: int = 0  # of each head's queries, keys and values; 0: width / heads (Eq. 4 prints width itself)
    # what graph heads do: mp, they hear the nearest predecessors alone; se, all, each with a learned number of how far
    # it is along the edges
    variant: str = "mp"
    # concurrent: both kinds of heads in each block; graph_first or sequence_first: the first half of the blocks has
    # heads of one kind, the rest of the other (G-S and S-G of table 3)
    arrangement: str = "concurrent"
    neighbours: int = 20  # k: nearest predecessors, oneself among them; the paper tries 5 to 70
    longest_path: int = 4  # S; the paper names none
    svd_rank: int = 64  # numbers of an item's vector by the SVD of who touched what; the paper names none
    dropout: float = 0.2  # share of the numbers that training drops, of the input and of what a block adds
    # days after an event in which what it foretells may lie, one of those events drawn anew each epoch; 0: the next
    # event, as in the paper
    horizon_days: int = 0
    candidates: int = 0  # items drawn for a batch that a target is held against in Eq. 6; 0: all items
    learning_rate: float = 0.001  # of Adam
    warm_rate_share: float = 0.3  # of learning_rate, on a warm start
    weight_decay: float = 0.0  # of Adam (decoupled)
    batch_size: int = 128  # histories, or pieces of long ones, per update
    epochs: int = 60  # at most; the paper has 100
    validation_share: float = 0.1  # of the users, whose last event is held out to stop early; 0 learns from all
    evaluate_users: int = 10_000  # of those, at most
    evaluate_every: int = 1  # epochs between two looks at them
    min_gain: float = 0.0  # share of NDCG@10 that a look has to gain to count, and never less than its standard error
    patience: int = 10  # looks without a gain before stopping; 0 never stops early
    device: str = "cpu"  # cpu, cuda, cuda:0, ...; neighbours and paths are found on the CPU
    inference_chunk: int = 65_536  # events computed at a time: bounds memory, leaves the result as it is

    @property
    def dimension(self) -> int:
        """Of the vectors that are handed out: a state and a 1, an item's weights and its bias."""
        return self.width + 1

    @property
    def numbers_of_head(self) -> int:
        """W: of a head's queries, keys and values."""
        return self.head_width or self.width // self.heads

    def sequence_heads_of(self, layer: int) -> int:
        """How many heads of a block (from 0) hear the order of the history."""
        if self.arrangement == "concurrent":
            return self.sequence_heads
        first = layer < self.layers // 2
        return self.heads if first == (self.arrangement == "sequence_first") else 0

    @property
    def has_graph(self) -> bool:
        """Whether any head hears along collaborative edges."""
        return any(self.sequence_heads_of(layer) < self.heads for layer in range(self.layers))

    def __post_init__(self) -> None:
        check_choice("variant", self.variant, ("mp", "se"))
        check_choice("arrangement", self.arrangement, ("concurrent", "graph_first", "sequence_first"))
        check_device("device", self.device)
        for name in ("width", "layers", "heads", "neighbours", "svd_rank", "batch_size", "epochs", "evaluate_every",
                     "inference_chunk"):  # fmt: skip
            check_range(name, getattr(self, name), 1)
        for name in ("head_width", "candidates", "weight_decay", "patience", "evaluate_users"):
            check_range(name, getattr(self, name), 0)
        check_range("sequence_heads", self.sequence_heads, 0, self.heads)
        check_range("horizon_days", self.horizon_days, 0, MOST_DAYS)
        check_range("longest_path", self.longest_path, 1, MOST_PATH)
        check_range("learning_rate", self.learning_rate, 0, open_minimum=True)
        check_range("warm_rate_share", self.warm_rate_share, 0, 1, open_minimum=True)
        check_range("min_gain", self.min_gain, 0, 1)
        check_range("dropout", self.dropout, 0, 0.9)
        check_range("validation_share", self.validation_share, 0, 0.5)
        if not self.head_width and self.width % self.heads:
            expected = f"a divisor of width, which is {self.width!r}, or a head_width of its own"
            raise HyperparameterError(f"heads is {self.heads!r}; expected {expected}")
        if self.arrangement != "concurrent" and self.layers < 2:
            raise HyperparameterError(f"layers is 1; expected at least 2 with arrangement {self.arrangement!r}")
