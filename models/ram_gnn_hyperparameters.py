"""What can be set about RAM-GNN and its interaction network, from the standard library alone."""

from __future__ import annotations

from dataclasses import dataclass

from models.hyperparameter_checks import HyperparameterError, check_choice, check_device, check_range


@dataclass(frozen=True)
class RAMGNNHyperparameters:
    """Everything that can be set about the pretraining on shared attributes (RAM-GNN, sections III-A to III-D)."""

    dimension: int = 64  # of every vector, even: e_t and e_v are half as long (Eq. 4); the paper's best is 60 to 80
    layers: int = 2  # of Eq. 15, as in the paper
    composition: str = "corr"  # phi: add, mul or corr (circular correlation), the paper's best
    mlp_width: int = 32  # of the hidden layer of the MLP of Eq. 9
    # s of Eq. 16: dot, the logistic of the final vectors' product; mlp, Eq. 9 and 10 on them: one number of each
    final_similarity: str = "dot"
    attends: bool = True  # off: Eq. 6 and 7 give every kept neighbour the same weight
    negatives: int = 4  # entities without the value, drawn against each row
    threshold: int = 5  # k_t at first; on a warm start the predecessor's goes on
    threshold_step: int = 2  # by which a reward moves k_t (the paper's epsilon); 0 leaves it
    max_threshold: int = 40  # k_t at most: the memory of training is linear in it
    termination_bound: int = 2  # the last ten rewards add up to at most so much: k_t is fixed (Eq. 14)
    # of a value's members, drawn anew in each epoch, among which its neighbours are looked for; 0: among all, exact
    candidates: int = 0
    block: int = 65_536  # entities in one step of training, drawn anew in each epoch: bounds memory
    similarity_weight: float = 0.5  # lambda_gamma of Eq. 17
    decay: float = 1e-4  # lambda_1 of Eq. 17
    learning_rate: float = 0.01  # of Adam
    warm_rate_share: float = 0.2  # of learning_rate, on a warm start: else who is alike changes places every night
    epochs: int = 150  # at most; a step for each block
    validation_share: float = 0.05  # of the rows, held out of training to stop early; 0 trains on all
    evaluate_rows: int = 10_000  # held-out rows, at most
    evaluate_every: int = 10  # epochs between two looks at the held-out rows
    # share of the held-out figure that a look has to gain to count, and never less than the figure's standard error
    min_gain: float = 0.005
    patience: int = 2  # looks without a gain before stopping; 0 never stops early
    # on a cold start, epochs (or all, where `epochs` is less) before a look counts: the held-out figure stands still
    # long before neighbours share more values than strangers do
    min_epochs: int = 100
    device: str = "cpu"  # cpu, cuda, cuda:0, ...; the graph lies there too
    inference_chunk: int = 65_536  # entities computed at a time: bounds memory, leaves the result as it is

    def __post_init__(self) -> None:
        check_choice("composition", self.composition, ("add", "mul", "corr"))
        check_choice("final_similarity", self.final_similarity, ("dot", "mlp"))
        check_device("device", self.device)
        for name in ("layers", "mlp_width", "negatives", "threshold", "max_threshold", "epochs", "evaluate_every"):
            check_range(name, getattr(self, name), 1)
        for name in ("block", "inference_chunk", "dimension"):
            check_range(name, getattr(self, name), 2)
        for name in ("threshold_step", "termination_bound", "candidates", "similarity_weight", "decay", "patience",
                     "min_epochs"):  # fmt: skip
            check_range(name, getattr(self, name), 0)
        check_range("evaluate_rows", self.evaluate_rows, 0)
        check_range("learning_rate", self.learning_rate, 0, open_minimum=True)
        check_range("min_gain", self.min_gain, 0, 1)
        check_range("warm_rate_share", self.warm_rate_share, 0, 1, open_minimum=True)
        check_range("validation_share", self.validation_share, 0, 0.5)
        if self.dimension % 2:
            raise HyperparameterError(f"dimension is {self.dimension!r:.300}; expected an even number")
        if self.threshold > self.max_threshold:
            most = f"at most max_threshold, which is {self.max_threshold!r:.300}"
            raise HyperparameterError(f"threshold is {self.threshold!r:.300}; expected {most}")


@dataclass(frozen=True)
class InteractionHyperparameters:
    """Everything that can be set about the network on interactions (RAM-GNN, section III-E)."""

    layers: int = 4  # of Eq. 19 and 21, as in the paper; 0: matrix factorisation
    initial_length: float = 0.3  # of e_u and e_i: pretraining gives directions
    activation: str = "none"  # sigma of Eq. 19 and 21: leaky_relu, or none as in LightGCN
    # the W_4 of Eq. 19 and 21, and the W_3 of Eq. 18 and 20 of a side without attributes; off: the identity
    transforms: bool = True
    adds_own: bool = True  # the x of the layer before in Eq. 19 and 21; off as in LightGCN
    readout: str = "mean"  # of all layers' vectors, as in LightGCN; last: the last layer's, as printed
    # of what a user had last so many items stand beside his vector in Eq. 22, so that lists follow what he is about
    # (docs/ram_gnn.md); 0: none, as in the paper
    recent: int = 8
    recent_half_life: float = 1.0  # visits (moments with an event) after which one of them counts half
    recent_weight: float = 1.0  # of their mean: the more, the more vectors move from night to night
    negatives: int = 4  # items drawn against each pair
    hardest: bool = False  # of them only the one with the highest score counts
    batches: int = 32  # equal parts of the pairs in an epoch, an update for each: an epoch stays linear in the pairs
    # pairs in a batch at least, so that a small graph has fewer updates in an epoch: each costs a pass over the whole
    # graph, and many on few pairs learn them by heart
    least_batch: int = 4_096
    decay: float = 1e-3  # lambda_2 of Eq. 23, on a batch's own vectors
    learning_rate: float = 0.005  # of Adam
    # of learning_rate, for W_3, W_4 and the values: they move everybody at once, and at the whole of it they learn the
    # training pairs by heart before the vectors of users and items have learned anything
    shared_rate_share: float = 0.05
    warm_rate_share: float = 0.2  # of learning_rate, on a warm start
    epochs: int = 60  # at most
    validation_share: float = 0.1  # of the users, each with one pair held out of training; 0 trains on all
    evaluate_users: int = 2_000  # held-out pairs, at most
    evaluate_every: int = 5  # epochs between two looks at the held-out pairs
    # share of the held-out figure that a look has to gain to count, and never less than the figure's standard error
    min_gain: float = 0.01
    patience: int = 3  # looks without a gain before stopping; 0 never stops early
    device: str = "cpu"  # cpu, cuda, cuda:0, ...; the graph lies there too

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, ("leaky_relu", "none"))
        check_choice("readout", self.readout, ("mean", "last"))
        check_device("device", self.device)
        check_range("layers", self.layers, 0)
        check_range("recent", self.recent, 0, 1000)
        for name in ("negatives", "batches", "least_batch", "epochs", "evaluate_every"):
            check_range(name, getattr(self, name), 1)
        for name in ("decay", "patience", "evaluate_users"):
            check_range(name, getattr(self, name), 0)
        for name in ("learning_rate", "initial_length", "recent_half_life", "recent_weight"):
            check_range(name, getattr(self, name), 0, open_minimum=True)
        check_range("min_gain", self.min_gain, 0, 1)
        for name in ("warm_rate_share", "shared_rate_share"):
            check_range(name, getattr(self, name), 0, 1, open_minimum=True)
        check_range("validation_share", self.validation_share, 0, 0.5)

    @property
    def remembered(self) -> str:
        """What `recent` adds to users' vectors, as nights compare it."""
        if not self.recent:
            return "nothing"
        return f"{self.recent} items, half-life {self.recent_half_life:g}, weight {self.recent_weight:g}"
