"""Checkpoints survive the trip through bytes, damaged ones say so, early stopping and snapshots keep their promises."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from models.learning.training import (
    CheckpointError,
    EarlyStopping,
    Snapshot,
    SnapshotError,
    fingerprint,
    from_bytes,
    least_gain,
    standard_error,
    to_bytes,
)

ARRAYS = {
    "vectors": np.arange(6, dtype=np.float32).reshape(2, 3),
    "count": np.array(3, dtype=np.int64),
    "none": np.zeros((0, 4), np.float32),
    "keys": np.array([2**64 - 1], dtype=np.uint64),
    "mask": np.array([True, False]),
}


def test_round_trip_keeps_names_types_shapes_values_and_metadata() -> None:
    metadata = {"space_id": "a\nü\"", "layers": "2"}
    arrays, read = from_bytes(to_bytes(ARRAYS, metadata))
    assert read == metadata and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        np.testing.assert_array_equal(arrays[name], array)
    arrays["vectors"][0, 0] = 7  # the caller's own memory


def test_a_strided_view_is_stored_as_it_reads() -> None:
    view = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    np.testing.assert_array_equal(from_bytes(to_bytes({"view": view}))[0]["view"], view)


def test_equal_content_gives_equal_bytes_in_every_process() -> None:
    program = (
        "import numpy, sys; from models.learning.training import to_bytes;"
        "names = sys.argv[1].split(',');"
        "sys.stdout.write(to_bytes({n: numpy.ones(2) for n in names}, {n: n for n in names}).hex())"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", program, names], capture_output=True, check=True, text=True).stdout
        for names in ("a,b,c,d", "d,b,a,c", "c,d,b,a")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b"\xff" * len(b)])
def test_damaged_bytes_are_refused_with_a_message(damage) -> None:
    with pytest.raises(CheckpointError, match="no readable safetensors"):
        from_bytes(damage(to_bytes(ARRAYS)))


def test_what_safetensors_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match="'names'"):
        to_bytes({"names": np.array(["a"])})
    with pytest.raises(CheckpointError, match="'layers'"):
        to_bytes({}, {"layers": 2})  # type: ignore[dict-item]


def test_early_stopping_waits_for_its_patience_and_remembers_the_best() -> None:
    stopping = EarlyStopping(patience=2)
    assert [stopping.update(i, v) for i, v in enumerate([0.1, 0.3, 0.2, 0.3])] == [False, False, False, True]
    assert (stopping.best_epoch, stopping.best_value) == (1, 0.3)


def test_early_stopping_takes_nan_for_no_improvement_and_patience_zero_never_stops() -> None:
    stopping = EarlyStopping(patience=0)
    assert not any(stopping.update(i, v) for i, v in enumerate([0.2, float("nan"), 0.1, 0.1]))
    assert stopping.best_epoch == 0 and not stopping.improved


def test_early_stopping_counts_gains_and_keeps_the_best() -> None:
    """Rises too small to count stop it; the highest figure is kept all the same."""
    stopping = EarlyStopping(patience=3)
    figures = [0.2, 0.3, 0.32, 0.34, 0.33]
    assert [stopping.update(i, v, 0.05) for i, v in enumerate(figures)] == [False, False, False, False, True]
    assert (stopping.best_epoch, stopping.best_value) == (3, 0.34)
    gained = EarlyStopping(patience=3, keeps_gains=True)
    assert [gained.update(i, v, 0.05) for i, v in enumerate(figures)][-1]
    assert (gained.best_epoch, gained.best_value) == (1, 0.3), "the others are higher, and no gain"
    gains = EarlyStopping(patience=3, keeps_gains=True)
    assert [gains.update(i, v, 0.05) for i, v in enumerate([0.2, 0.3, 0.32, 0.36, 0.35])] == [False] * 5
    assert (gains.best_epoch, gains.best_value) == (3, 0.36) and not gains.improved
    slow = EarlyStopping(patience=3)  # small rises that add up to a gain within its patience go on
    assert not any(slow.update(i, 0.3 + 0.02 * i, 0.05) for i in range(20))


def test_early_stopping_looks_at_nothing_before_its_least_number_of_epochs() -> None:
    stopping = EarlyStopping(patience=1, min_epochs=3)
    figures = [0.9, 0.1, 0.2, 0.3, 0.3]
    assert [stopping.update(i, v) for i, v in enumerate(figures)] == [False, False, False, False, True]
    assert stopping.best_epoch == 3


def test_the_gain_asked_for_is_never_below_the_standard_error() -> None:
    values = np.array([1.0, 2.0, 4.0, 7.0])
    assert standard_error(values) == pytest.approx(values.std(ddof=1) / 2)
    assert np.isnan(standard_error(values[:1])) and np.isnan(standard_error(values[:0]))
    assert least_gain(-0.5, 0.01, 0.1) == pytest.approx(0.05) and least_gain(0.5, 0.2, 0.1) == 0.2
    assert least_gain(0.5, float("nan"), 0.0) == 0


def test_a_snapshot_is_taken_up_only_by_the_same_training(tmp_path) -> None:
    mine, other = (Snapshot(tmp_path / "resume", fingerprint(ARRAYS["vectors"], seed)) for seed in (1, 2))
    assert mine.load() is None
    mine.save(ARRAYS, {"epoch": "4"})
    arrays, metadata = mine.load()
    np.testing.assert_array_equal(arrays["vectors"], ARRAYS["vectors"])
    assert metadata["epoch"] == "4" and other.load() is None
    assert [path.name for path in tmp_path.iterdir()] == ["resume"]  # no temporary stays behind
    mine.remove()
    assert mine.load() is None


def test_fingerprints_tell_content_type_and_shape_apart() -> None:
    base = np.arange(4, dtype=np.int32)
    prints = set(map(fingerprint, (base, base + 1, base.astype(np.uint32), base.reshape(2, 2))))
    assert len(prints) == 4 and fingerprint(base) == fingerprint(base.copy())


def test_no_changed_bit_of_a_snapshot_is_gone_on_from(tmp_path) -> None:
    snapshot, random = Snapshot(tmp_path / "resume", fingerprint(1)), np.random.default_rng(0)
    snapshot.save(ARRAYS, {"epoch": "4"})
    whole, refused = snapshot.path.read_bytes(), 0
    for at in random.integers(0, 8 * len(whole), 400):
        changed = bytearray(whole)
        changed[at // 8] ^= 1 << (at % 8)
        snapshot.path.write_bytes(changed)
        try:
            found = snapshot.load()
        except SnapshotError as error:
            refused += 1
            said = str(error)
            assert str(snapshot.path) in said and "; expected the state as it was saved. Delete the file" in said
            continue
        if found is not None:  # a changed fingerprint is another training's
            assert found[1] == {"epoch": "4"}
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(found[0][name], array)
    assert refused > 200


@pytest.mark.parametrize("keep", [0, 7, 40, -1])
def test_a_truncated_snapshot_is_named(tmp_path, keep: int) -> None:
    snapshot = Snapshot(tmp_path / "resume", fingerprint(1))
    snapshot.save(ARRAYS, {"epoch": "4"})
    snapshot.path.write_bytes(snapshot.path.read_bytes()[:keep])
    with pytest.raises(SnapshotError, match=r"resume, from which .* goes on, holds \d+ bytes that are no"):
        snapshot.load()
