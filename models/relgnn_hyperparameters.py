"""What can be set about RelGNN and its sampler, from the standard library alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.hyperparameter_checks import HyperparameterError, check_choice, check_device, check_range
from models.sampling_hyperparameters import SamplingHyperparameters


@dataclass(frozen=True)
class RelGNNHyperparameters:
    """Everything that can be set about RelGNN."""

    dimension: int = 64  # of every vector; the paper names none
    # vectors that go into the attribute networks beside the attributes: attributes (none), transe or ram_gnn
    init: str = "attributes"
    attribute_width: int = 16  # of what each attribute's own network makes of it
    # attributes, by the names of their relations (item_title), whose values are texts: read word by word, each word
    # with a vector of its own, so that a value that nobody else has says something
    text_attributes: list[str] = field(default_factory=list)
    # how often a user shows each behaviour and an item meets with it (log of 1 + the number, of edges that are not
    # hidden) are attributes too: then what is bought much is told apart
    counts: bool = False
    layers: int = 2  # of Eq. 5; 0: the attribute vectors alone, as DistMult and ComplEx have them
    heads: int = 4  # L of Eq. 5
    bases: int = 4  # B of the basis decomposition of W_r; 0: each code has a W_r of its own
    attends: bool = True  # off: messages weigh 1 / the number of the relation's, as in R-GCN
    combines: bool = True  # Eq. 6 and 7; off: the graph vector alone, as in R-GCN
    scoring: str = "diagonal"  # of Eq. 9: diagonal (DistMult), or complex (ComplEx, Trouillon et al. 2016)
    dropout: float = 0.2  # share of a layer's input that training drops; the paper speaks of none
    # its pool: candidates of each entity type that a batch shares
    sampling: SamplingHyperparameters = SamplingHyperparameters(kind="asa")
    negatives: int = 1  # chosen for each end of a true edge
    # what of a batch passes it no message: its edges, or all edges between their ends (then who carted what he is to
    # buy gives nothing away, as for a pair that has no edge yet)
    hides: str = "pair"
    learning_rate: float = 0.005  # of Adam
    warm_rate_share: float = 0.2  # of learning_rate, on a warm start
    weight_decay: float = 0.0  # of Adam (decoupled)
    batch_size: int = 4096  # true edges per update
    max_batches_per_epoch: int = 0  # an epoch ends after so many batches, drawn anew each time; 0: all edges
    fanout: int = 20  # messages drawn into a node in training; 0: all, and every step goes over the whole graph
    epochs: int = 30  # at most
    validation_share: float = 0.05  # of the edges, held out of training with all others between their ends; 0: none
    evaluate_edges: int = 5_000  # held-out edges, at most
    evaluate_candidates: int = 500  # drawn once, among which a held-out edge's end is ranked
    evaluate_every: int = 2  # epochs between two looks at the held-out edges
    # share of the held-out MRR that a look has to gain to count, and never less than its standard error
    min_gain: float = 0.005
    patience: int = 4  # looks without a gain before stopping; 0 never stops early
    device: str = "cpu"  # cpu, cuda, cuda:0, ...; sampling stays on the CPU
    inference_chunk: int = 65_536  # destination nodes computed at a time: bounds memory, leaves the result as it is

    def __post_init__(self) -> None:
        check_choice("init", self.init, ("attributes", "transe", "ram_gnn"))
        check_choice("scoring", self.scoring, ("diagonal", "complex"))
        check_choice("hides", self.hides, ("edge", "pair"))
        check_device("device", self.device)
        for name in ("dimension", "attribute_width", "heads", "negatives", "batch_size", "epochs",
                     "evaluate_candidates", "evaluate_every", "inference_chunk"):  # fmt: skip
            check_range(name, getattr(self, name), 1)
        for name in ("layers", "bases", "weight_decay", "fanout", "patience", "evaluate_edges",
                     "max_batches_per_epoch"):  # fmt: skip
            check_range(name, getattr(self, name), 0)
        check_range("learning_rate", self.learning_rate, 0, open_minimum=True)
        check_range("warm_rate_share", self.warm_rate_share, 0, 1, open_minimum=True)
        check_range("min_gain", self.min_gain, 0, 1)
        check_range("dropout", self.dropout, 0, 0.9)
        check_range("validation_share", self.validation_share, 0, 0.5)
        if self.scoring == "complex" and self.dimension % 2:
            expected = "an even number, for scoring complex has pairs"
            raise HyperparameterError(f"dimension is {self.dimension!r:.300}; expected {expected}")
        self.sampling.check_negatives(self.negatives)
