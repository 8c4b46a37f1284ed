"""What model families there are: one record each, in the order in which one can start from another.

The DAG, the configuration, the jobs, the report and the tests read these records; nobody else names a family. Whoever
adds one writes a record here, the modules that it names, their tests and a section of the README. Standard library
alone: the scheduler imports this file.

A family is what has one section of hyperparameters; it publishes one model or several, and one job or several train
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from models.family import GRAPH, Family, Job

FAMILIES: tuple[Family, ...] = (
    Family(
        name="transe",
        title="TransE",
        hyperparameters="models.hyperparameters.TransEHyperparameters",
        jobs=(
            Job(
                program="embeddings.pretrain_transe",
                models=("transe",),
                doc="Trains TransE on the knowledge graph, or carries it over on a night without training.",
            ),
        ),
        compared="translation",
        dimension="transe.dimension",
        norm="transe.norm",
        learns_from="edges",
        measure="validation_mrr",
        measured="filtered MRR {:.3f} on held-out edges",
        triage=(
            "`pretrain_transe`",
            "Memory: clear the task, and it goes on from its last snapshot. Diverged: lower `transe.learning_rate`.",
        ),
    ),
    Family(
        name="ram_gnn",
        title="RAM-GNN",
        hyperparameters="models.ram_gnn_hyperparameters.RAMGNNHyperparameters",
        jobs=(
            Job(
                program="embeddings.pretrain_ram_gnn",
                models=("ram_gnn",),
                doc="Trains RAM-GNN on the attributes that users and items share, or carries it over on a night "
                "without training.",
                reads=(*GRAPH, "attributes"),
            ),
        ),
        compared="cosine",
        dimension="ram_gnn.dimension",
        norm="l2",
        learns_from="values of attributes",
        measure="validation_accuracy",
        measured="{:.1%} of held-out values: nearer to one who has it than to one who has not",
        triage=(
            "`pretrain_ram_gnn`",
            "Skipped: the graph has no attribute. Failed: memory (lower `ram_gnn.block` or `max_threshold`); clear the "
            "task, and it goes on from its last snapshot. Diverged: lower `ram_gnn.learning_rate`.",
        ),
        same={"composition": "ram_gnn.composition"},
        shaped_by=("layers", "attends"),
        around="jobs.embeddings.transe_around",
        builders=("graphs.build_attributes",),
        section="jobs.report.ram_gnn_thresholds",
    ),
    Family(
        name="ram_gnn_rec",
        title="RAM-GNN recommending",
        hyperparameters="models.ram_gnn_hyperparameters.InteractionHyperparameters",
        jobs=(
            Job(
                program="embeddings.finetune_ram_gnn", models=("ram_gnn_rec",),
                doc="Trains the interaction network on RAM-GNN's vectors and who has an event with what.",
                reads=(*GRAPH, "attributes", "interactions"), starts_from=("ram_gnn",)),  # fmt: skip
        ),
        compared="dot",
        dimension="ram_gnn.dimension",
        norm="l2",
        learns_from="pairs",
        measure="validation_ndcg",
        measured="NDCG@10 {:.3f} of held-out items among all",
        triage=("`finetune_ram_gnn`", "Memory: clear the task, and it goes on from its last snapshot. Diverged: lower "
                "`ram_gnn_rec.learning_rate`."),
        aligned_by="item",  # what a user had last is of the day
        same={"recent": "ram_gnn_rec.remembered"},
        unsaid={"recent": "nothing"},
        shaped_by=("layers", "activation", "transforms", "adds_own", "readout"),
        builders=("graphs.build_attributes",),
    ),
    Family(
        name="kqgc",
        title="KQGC",
        hyperparameters="models.hyperparameters.KQGCHyperparameters",
        jobs=(
            Job(
                program="embeddings.smooth_kqgc",
                models=("kqgc_mean", "kqgc_attention1", "kqgc_attention2"),
                doc="Smooths pretrained vectors over the graph; its map is trained where the settings ask for it.",
                starts_from=("transe", "ram_gnn"),
                start_settings=("init",),
            ),
        ),
        compared="translation",
        dimension="{kqgc.init}.dimension",
        norm="kqgc.norm",
        learns_from="pairs",
        measure="validation_accuracy",
        measured="{:.1%} of held-out pairs ranked right",
        triage=("`smooth_kqgc_…`", "Memory: clear the task, and it begins anew. Diverged: lower `learning_rate` of the "
                "section that its log names."),
        # of the vectors that it smooths, and how far it takes them from there
        same={
            "init": "kqgc.init", "transe": "transe.norm", "learned": "kqgc.learned", "degree_share": "kqgc.share",
            "repeats": "kqgc.repeated"},
        unsaid={"learned": True, "degree_share": 0.0, "repeats": False},
        shaped_by=("layers", "attention_normalisation"),
    ),
    Family(
        name="rhgn",
        title="RHGN",
        hyperparameters="models.hyperparameters.RHGNHyperparameters",
        jobs=(
            Job(
                program="embeddings.finetune_rhgn",
                models=("rhgn",),
                doc="Trains RHGN on pretrained vectors and the labels of fold A, computes the vectors of all users, "
                "and whom each listens to.",
                reads=(*GRAPH, "user_labels"),
                writes=("attention",),
                starts_from=("transe", "ram_gnn"),
                start_settings=("init", "init_attributes"),
            ),
        ),
        compared="cosine",
        dimension="rhgn.width",
        norm="l2",
        learns_from="labelled users",
        measure="validation_macro_f1",
        measured="macro-F1 {:.3f} on held-out users of fold A",
        triage=(
            "`finetune_rhgn` skipped",
            "No label can be learned from yet; its log says of each what is missing. Its vectors and profiles are "
            "skipped with it.",
        ),
        same={
            "init": "rhgn.init",  # parameters make sense of no other vectors than those that went in
            "init_attributes": "rhgn.init_attributes",
            "transe": "transe.norm",
            "salt": "profiles.salt",  # parameters that learned from users who test now are no start for tonight's
            "fold_a": "profiles.folds.a",
        },
        shaped_by=("layers", "heads", "softmax_over", "typed_projections", "project_inputs"),
        learns_labels=True,
        head="jobs.profiles.rhgn_head",
        section="jobs.report.rhgn_attention",
    ),
    Family(
        name="relgnn",
        title="RelGNN",
        hyperparameters="models.relgnn_hyperparameters.RelGNNHyperparameters",
        jobs=(
            Job(
                program="embeddings.finetune_relgnn",
                models=("relgnn",),
                doc="Trains RelGNN to tell the graph's relationships from others, and computes the vectors of all.",
                starts_from=("transe", "ram_gnn"),
                start_settings=("init",),
                starts_alone=True,
            ),
        ),
        compared="relgnn.scoring",
        dimension="relgnn.dimension",
        norm="l2",
        learns_from="edges",
        measure="validation_mrr",
        measured="filtered MRR {:.3f} of held-out edges among drawn ones",
        triage=(
            "`finetune_relgnn`",
            "Memory (lower `relgnn.batch_size`, `fanout` or `sampling.pool`): clear the task, and it goes on from its "
            "last snapshot. Diverged: lower `relgnn.learning_rate`.",
        ),
        same={"scoring": "relgnn.scoring", "init": "relgnn.init"},
        shaped_by=("layers", "bases", "attends", "combines", "counts"),
        section="jobs.report.relgnn_negatives",
    ),
    Family(
        name="hugt",
        title="HUGT",
        hyperparameters="models.hugt_hyperparameters.HUGTHyperparameters",
        jobs=(
            Job(
                program="embeddings.train_hugt",
                models=("hugt",),
                doc="Trains HUGT to foretell the next event of every history, and computes the states of all users.",
                reads=(*GRAPH, "sequences"),
            ),
        ),
        compared="softmax",
        dimension="hugt.dimension",
        norm="l2",
        learns_from="events",
        measure="validation_ndcg",
        measured="NDCG@10 {:.3f} of held-out next items among all",
        triage=(
            "`train_hugt`",
            "Memory (lower `hugt.batch_size` or `sequences.max_length`, or set `hugt.candidates`): clear the task, and "
            "it goes on from its last snapshot. Diverged: lower `hugt.learning_rate`.",
        ),
        same={"variant": "hugt.variant"},
        shaped_by=("heads", "neighbours", "svd_rank"),
        aligned_by="item",
        builders=("graphs.build_sequences",),
        section="jobs.report.hugt_lengths",
    ),
)


DEFAULT_MODELS = ("transe", "kqgc_mean")  # that are published where the configuration names none


def published_models() -> tuple[str, ...]:
    """Every model that can be published, in the order of the records."""
    return tuple(model for family in FAMILIES for model in family.models)


def family_named(name: str) -> Family:
    """The record of a family. KeyError where there is none."""
    return {family.name: family for family in FAMILIES}[name]


def family_of(model: str) -> Family:
    """The record whose jobs train `model`. KeyError where no family does."""
    return {model: family for family in FAMILIES for model in family.models}[model]


def job_of(model: str) -> Job:
    """The job that trains `model`. KeyError where none does."""
    return family_of(model).job_of(model)


def sources_of(model: str, sections: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The models whose checkpoints `model` starts from. sections: the values of each family's section, by its name."""
    family = family_of(model)
    starts = family.job_of(model).starts(sections.get(family.name, {}))
    return tuple(family_named(name).models[0] for name in starts)


def trained_models(published: Iterable[str], sections: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The published models and all that they start from, in the order of the records: what a night trains."""

    def with_sources(model: str) -> Iterator[str]:
        yield model
        for source in sources_of(model, sections):
            yield from with_sources(source)

    wanted = {found for model in published for found in with_sources(model)}
    return tuple(model for model in published_models() if model in wanted)
