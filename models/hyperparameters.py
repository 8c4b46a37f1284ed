"""What can be set about each model: frozen dataclasses that check themselves, from the standard library alone.

The job configuration embeds these classes, so that a wrong value fails at start; nothing here may import numpy or
torch.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

from models.hyperparameter_checks import HyperparameterError, check_choice, check_device, check_range
from models.sampling_hyperparameters import SamplingHyperparameters


@dataclass(frozen=True)
class TransEHyperparameters:
    """Everything that can be set about TransE; the defaults suit a nightly graph of 10^5 to 10^7 edges."""

    dimension: int = 64  # length of every vector
    norm: str = "l2"  # of Eq. 2: l1 as in the paper, or l2
    loss: str = "self_adversarial"  # margin: Eq. 1; self_adversarial: Sun et al. 2019, Eq. 5
    margin: float = 1.0  # gamma, in units of the distance of Eq. 2
    adversarial_temperature: float = 5.0  # alpha: sharpness of the weights of hard negatives; used by self_adversarial
    negatives: int = 64  # broken triples per true triple
    # torch engine: how the broken triples are chosen, of a pool of its own for each true triple; the numba engine has
    # uniform alone
    sampling: SamplingHyperparameters = SamplingHyperparameters()
    negatives_shared_by: int = 32  # true triples (of one relation) that share a draw of broken entities; 1: a draw each
    type_constrained: bool = True  # break a triple with entities of the right type only
    filtered: bool = True  # a broken triple that is true counts nothing
    unit_norm: bool = True  # keep every entity on the unit sphere (L2), as in Bordes et al. 2013
    optimizer: str = "adagrad"  # adagrad: one accumulator per row; sgd: none
    learning_rate: float = 0.1  # step of the optimiser
    final_rate_share: float = 1.0  # share of the step left in the last epoch, reached linearly; 1 keeps the step
    warm_accumulator_share: float = 0.5  # share of the predecessor's accumulators a warm start keeps: 1 all, 0 none
    epochs: int = 40  # passes over the training edges, at most
    batch_size: int = 1024  # torch engine: edges per update; the numba engine updates at once (Hogwild)
    engine: str = "numba"  # numba: the compiled CPU kernels; torch: the readable reference, any device
    device: str = "cpu"  # torch engine: cpu, cuda, cuda:0, ...
    threads: int = 0  # numba engine: threads, 0 for all cores of the machine; deterministic runs use one
    # of the edges, held out of training to stop early, with all other edges between the same two entities; 0 trains on
    # all
    validation_share: float = 0.02
    evaluate_edges: int = 10_000  # held-out edges, at most; so many have a standard error of 1 to 3 % of the MRR
    evaluate_every: int = 5  # epochs between two looks at the held-out edges
    # share of the filtered MRR that a look has to gain to count, and never less than the MRR's standard error
    min_gain: float = 0.03
    # looks without a gain before stopping; 0 never stops early. The best look is kept, on a warm start that of the last
    # gain: later ones move vectors away from the night before, and within the noise
    patience: int = 2
    # epochs (or all, where `epochs` is less) before a look counts: vectors still get better for other tasks when the
    # MRR rises no more
    min_epochs: int = 20
    warm_min_epochs: int = 5  # on a warm start, which begins where the predecessor ended (`make stopping`)

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, ("l1", "l2"))
        check_choice("loss", self.loss, ("margin", "self_adversarial"))
        check_choice("optimizer", self.optimizer, ("adagrad", "sgd"))
        check_choice("engine", self.engine, ("numba", "torch"))
        check_device("device", self.device)
        for name in ("dimension", "negatives", "negatives_shared_by", "epochs", "batch_size", "evaluate_every"):
            check_range(name, getattr(self, name), 1)
        for name in ("margin", "learning_rate"):
            check_range(name, getattr(self, name), 0, open_minimum=True)
        for name in ("adversarial_temperature", "threads", "patience", "evaluate_edges"):
            check_range(name, getattr(self, name), 0)
        for name in ("min_epochs", "warm_min_epochs"):
            check_range(name, getattr(self, name), 0)
        check_range("min_gain", self.min_gain, 0, 1)
        check_range("final_rate_share", self.final_rate_share, 0, 1, open_minimum=True)
        check_range("warm_accumulator_share", self.warm_accumulator_share, 0, 1)
        check_range("validation_share", self.validation_share, 0, 0.5)
        self.sampling.check_negatives(self.negatives)
        if self.engine == "numba" and self.sampling.kind != "uniform":
            found = f"sampling.kind is {self.sampling.kind!r:.300} with engine 'numba', which has uniform alone"
            raise HyperparameterError(f"{found}; expected 'uniform', or engine 'torch'")
        if self.engine == "numba" and self.device != "cpu":
            expected = "expected 'cpu', or engine 'torch'"
            raise HyperparameterError(
                f"device is {self.device!r:.300} with engine 'numba', which runs on the CPU; {expected}"
            )

    def rate_of(self, epoch: int) -> float:
        """The optimiser's step in an epoch (0-based)."""
        passed = epoch / max(self.epochs - 1, 1)
        return self.learning_rate * (1 + (self.final_rate_share - 1) * passed)


# what `KQGCHyperparameters` say of training alone
_OF_KQGC_TRAINING = (
    "bias", "margin", "negatives", "sampling", "fanout", "mask_own_edge", "learning_rate", "batch_size",
    "max_batches_per_epoch", "epochs", "validation_share", "evaluate_pairs", "evaluate_every", "min_gain",
    "patience")  # fmt: skip
DEGREE_SHARE = 0.35  # chosen on the users who choose of three logs at once (`python -m tests.papers.smoothing`)


@dataclass(frozen=True)
class KQGCHyperparameters:
    """Everything that can be set about KQGC.

    The defaults are those of the paper's section 4.2 unless a comment says otherwise.
    """

    # the vectors that are smoothed: transe; or ram_gnn's of users and items, with relations and values of a TransE that
    # is fitted around them
    init: str = "transe"
    aggregator: str = "mean"  # mean: Eq. 5; attention1: Eq. 8; attention2: Eq. 9
    attention_normalisation: str = "softmax"  # softmax, or ratio as Eq. 7 is printed, with negative weights
    layers: int = 1
    # off: W of Eq. 10 and 11 is the identity, b and a are 0: h + m itself is published, which costs seconds; on: as in
    # the paper. What W learns from pairs costs Complete Journey's tasks more than it gives (docs/results.md)
    learned: bool = False
    # m grows by degree ** share, so that vectors tell how much a user did; 0: the mean, as in the paper. With `learned`
    # on 0 alone, since training draws some of the neighbours. None: DEGREE_SHARE where nothing is learned, else 0
    degree_share: float | None = None
    # an edge of 1, 2, 4, 8 events passes 1, 2, 3, 4 equal messages, so that m and the degree tell what a user comes
    # back to; off: one, as in the paper. None: on where nothing is learned
    repeats: bool | None = None
    bias: bool = True  # the b of Eq. 10 and 11
    norm: str = "l1"  # of Eq. 13: l1 or l2
    margin: float = 1.0  # gamma of Eq. 12
    negatives: int = 3  # items drawn against each pair
    # how they are chosen: uniform draws them for each pair, as in the paper; of the others the pool is one of items
    # that a batch shares, and no item that the user bought is chosen
    sampling: SamplingHyperparameters = SamplingHyperparameters()
    fanout: int = 10  # neighbours drawn for a node, in training only
    mask_own_edge: bool = False  # hide the edges of a batch's own pairs from its messages
    learning_rate: float = 0.001  # of Adam
    batch_size: int = 2048  # pairs per update; the paper has 10,000, of 2.4 million
    max_batches_per_epoch: int = 0  # an epoch ends after so many batches, drawn anew each time; 0: all pairs
    epochs: int = 30  # at most; the paper takes the best of 10,000 on the test set
    validation_share: float = 0.05  # of the pairs, held out of training to stop early; 0 trains on all
    evaluate_pairs: int = 10_000  # held-out pairs, at most; looked at `batch_size` at a time
    evaluate_every: int = 1  # epochs between two looks at the held-out pairs
    # share of the held-out loss that a look has to gain to count, and never less than the loss's standard error
    min_gain: float = 0.01
    # looks without a gain before stopping; 0 never stops early. The best look is kept, on a warm start the last gain's
    patience: int = 3
    device: str = "cpu"  # cpu, cuda, cuda:0, ...; sampling stays on the CPU
    inference_chunk: int = 65_536  # destination nodes computed at a time: bounds memory, leaves the result as it is

    def __post_init__(self) -> None:
        check_choice("init", self.init, ("transe", "ram_gnn"))
        check_choice("aggregator", self.aggregator, ("mean", "attention1", "attention2"))
        check_device("device", self.device)
        check_choice("attention_normalisation", self.attention_normalisation, ("softmax", "ratio"))
        check_choice("norm", self.norm, ("l1", "l2"))
        for name in ("layers", "negatives", "fanout", "batch_size", "epochs", "evaluate_every", "inference_chunk"):
            check_range(name, getattr(self, name), 1)
        for name in ("margin", "learning_rate"):
            check_range(name, getattr(self, name), 0, open_minimum=True)
        check_range("patience", self.patience, 0)
        self.sampling.check_negatives(self.negatives)
        check_range("max_batches_per_epoch", self.max_batches_per_epoch, 0)
        check_range("evaluate_pairs", self.evaluate_pairs, 0)
        check_range("min_gain", self.min_gain, 0, 1)
        check_range("validation_share", self.validation_share, 0, 0.5)
        if self.degree_share is not None:
            check_range("degree_share", self.degree_share, 0, 1)
        if self.learned and self.degree_share:
            found = f"degree_share is {self.degree_share!r} with learned on"
            raise HyperparameterError(f"{found}; expected 0, or learned off: training knows the drawn neighbours alone")

    def idle(self, models: Collection[str]) -> list[str]:
        """What changes nothing where nothing is learned, in sentences: settings of training that are not at their
        defaults, and models (names as published) that come out equal."""
        if self.learned:
            return []
        changed = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
        named = ", ".join(f"kqgc.{name}" for name in changed if name in _OF_KQGC_TRAINING)
        found = []
        if named:
            found.append(
                f"Without effect: {named}. They are of KQGC's training, and kqgc.learned is false: leave them out, or "
                "set kqgc.learned: true")
        if {"kqgc_mean", "kqgc_attention2"} <= set(models):
            found.append(
                "kqgc_attention2 is equal to kqgc_mean, since kqgc.learned is false and its attention has nothing to "
                "weigh by; publish one of them, or set kqgc.learned: true")
        return found

    @property
    def share(self) -> float:
        """The power of its degree that a node's m grows by."""
        if self.degree_share is not None:
            return self.degree_share
        return 0.0 if self.learned else DEGREE_SHARE

    @property
    def repeated(self) -> bool:
        """Whether an edge of more events passes more messages."""
        return not self.learned if self.repeats is None else self.repeats


@dataclass(frozen=True)
class RHGNHyperparameters:
    """Everything that can be set about RHGN.

    The defaults are those of the paper's section 3.3 unless a comment says otherwise. Where it says "chosen", the value
    did best on the users who choose in `make tune-rhgn`.
    """

    # the given vectors of users and items: transe, ram_gnn, or random ones, which are learned
    init: str = "transe"
    # those of attributes' values: transe; content: FastText on their words, random where they are codes; or random.
    # Random ones are learned.
    # Content made no difference in `make paper-rhgn-ablations` (+0.1 points [-0.4, +0.6] for transe), and needs a
    # training of its own every night
    init_attributes: str = "transe"
    width: int = 64  # of every layer's vectors; the paper searches 32 to 256
    layers: int = 2
    heads: int = 4  # the paper searches 1 to 16; each is width / heads wide
    # all: Eq. 2, over all neighbours of all relations; relation: one softmax each, then their mean
    softmax_over: str = "all"
    typed_projections: bool = False  # F_K, F_Q, F_M and F_map per node type, as in HGT; the paper's are not typed
    # a linear map per node type from the given vectors to H⁰; without it they must be `width` long
    project_inputs: bool = True
    # in Eq. 4 every class of a label weighs the same, so that rare ones are named too; the paper weighs users alike
    class_weights: bool = True
    dropout: float = 0.2  # share of the numbers of F_map's output that training drops; chosen, the paper speaks of none
    learning_rate: float = 0.003  # of AdamW, the highest of the one cycle; chosen, the paper's 0.001 needs more epochs
    # of learning_rate, on a warm start: a whole cycle again moves every vector out of the former night's space
    warm_rate_share: float = 0.2
    weight_decay: float = 0.01  # of AdamW; learned rows of the input have none
    batch_size: int = 512  # labelled users per update
    # neighbours drawn for a node under each relation and direction, in training only; twice as many cost 1.4 times
    fanout: int = 20
    epochs: int = 12  # at most, and the length of the one cycle; chosen, the paper names none
    validation_share: float = 0.1  # of the labelled users, held out of training to stop early; 0 trains on all
    evaluate_every: int = 1  # epochs between two looks at the held-out users
    # looks without a better figure before stopping; 0 goes to the end of the cycle and takes the best epoch
    patience: int = 0
    stop_on: str = "macro_f1"  # the held-out figure that decides: macro_f1 (mean over labels; chosen), or loss
    # of the second loss (models/rhgn_behaviors.py) beside Eq. 4: which item a user had to do with; 0: none, as in the
    # paper
    behavior_weight: float = 0.0
    behavior_users: int = 256  # of an update's second loss, each with one item, which is told from the others' items
    # neighbours drawn for a node under each relation and direction, for the second loss: it takes more nodes than Eq. 4
    behavior_fanout: int = 5
    behavior_temperature: float = 0.1  # what cosines are divided by in the softmax of the second loss
    device: str = "cpu"  # cpu, cuda, cuda:0, ...; sampling stays on the CPU
    mixed_precision: bool = True  # on a GPU, matrix products in bfloat16; attention and sums stay in float32
    inference_chunk: int = 65_536  # destination nodes computed at a time: bounds memory, leaves the result as it is

    def __post_init__(self) -> None:
        check_choice("init", self.init, ("transe", "ram_gnn", "random"))
        check_device("device", self.device)
        check_choice("init_attributes", self.init_attributes, ("transe", "content", "random"))
        check_choice("softmax_over", self.softmax_over, ("all", "relation"))
        check_choice("stop_on", self.stop_on, ("loss", "macro_f1"))
        for name in ("width", "layers", "heads", "batch_size", "fanout", "epochs", "evaluate_every", "inference_chunk"):
            check_range(name, getattr(self, name), 1)
        check_range("learning_rate", self.learning_rate, 0, open_minimum=True)
        check_range("warm_rate_share", self.warm_rate_share, 0, 1, open_minimum=True)
        check_range("weight_decay", self.weight_decay, 0)
        check_range("patience", self.patience, 0)
        check_range("dropout", self.dropout, 0, 0.9)
        check_range("validation_share", self.validation_share, 0, 0.5)
        check_range("behavior_weight", self.behavior_weight, 0, 1000)
        check_range("behavior_users", self.behavior_users, 2)
        check_range("behavior_fanout", self.behavior_fanout, 1)
        check_range("behavior_temperature", self.behavior_temperature, 0.01, 10)
        if self.width % self.heads:
            raise HyperparameterError(f"heads is {self.heads!r}; expected a divisor of width, which is {self.width!r}")


@dataclass(frozen=True)
class TreeHyperparameters:
    """What can be set about the trees of models/classifiers/lookalike.py.

    The defaults suit some hundred to some thousand positives.
    """

    rounds: int = 600  # boosting rounds, at most
    learning_rate: float = 0.05
    max_depth: int = 3
    early_stopping_rounds: int = 40  # rounds without a lower loss on the held-out tenth
    subsample: float = 0.8  # share of the rows a tree sees
    colsample: float = 0.5  # share of the columns a tree sees
    min_child_weight: float = 5.0  # sum of p(1-p) a leaf needs: keeps leaves of one or two buyers away
    threads: int = 2

    def __post_init__(self) -> None:
        for name in ("rounds", "max_depth", "early_stopping_rounds", "threads"):
            check_range(name, getattr(self, name), 1)
        for name in ("learning_rate", "subsample", "colsample"):
            check_range(name, getattr(self, name), 0, 1, open_minimum=True)
        check_range("min_child_weight", self.min_child_weight, 0)


@dataclass(frozen=True)
class PooledTreeHyperparameters(TreeHyperparameters):
    """As its parent, for the trees that read the rows of all item sets (models/classifiers/pooled.py)."""

    rounds: int = 400
    learning_rate: float = 0.1
    max_depth: int = 5
    early_stopping_rounds: int = 20
    subsample: float = 0.6
    colsample: float = 0.4
    min_child_weight: float = 30.0
    boosters: int = 4  # each learns without one fold of users; their mean margin is the model's

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("boosters", self.boosters, 2, 64)
