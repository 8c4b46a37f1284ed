"""The hash of what is written, worked out beside the writing."""

import hashlib
import threading

import numpy as np
import pytest

from feature_store import Table, hash_beside
from feature_store.hash_beside import HashBeside
from tests.feature_store.places import Place, at

DATE = "2026-01-05"


@pytest.mark.parametrize("pieces", [[], [5], [hash_beside._FEW_BYTES, 1, 7], [1 << 20] * 40, [3, 9 << 20, 5]])
def test_it_is_that_of_the_bytes_in_their_order(pieces: list[int]) -> None:
    content = np.random.default_rng(0).bytes(sum(pieces))
    found, at_byte = HashBeside(), 0
    for length in pieces:
        found.update(memoryview(content)[at_byte : at_byte + length])
        at_byte += length
    assert found.hexdigest() == found.hexdigest() == hashlib.sha256(content).hexdigest()


def test_no_more_waits_than_is_bounded() -> None:
    """A hash that is slower than the writing must not keep the whole file in memory."""
    slow, done, said = HashBeside(), threading.Event(), threading.Event()

    class Slow:
        def update(self, _: memoryview) -> None:
            done.wait(20)

    slow._hash, piece = Slow(), memoryview(bytes(hash_beside._FEW_BYTES + 1))

    def write() -> None:
        for _ in range(hash_beside._MOST_WAITING + 1):
            slow.update(piece)
        said.set()

    writer = threading.Thread(target=write)
    writer.start()
    too_early, waiting = said.wait(0.2), len(slow._waiting)
    done.set()
    writer.join(20)
    assert not too_early and waiting <= hash_beside._MOST_WAITING
    assert said.is_set()


def test_a_large_file_has_its_hash_in_the_manifest(place: Place) -> None:
    table, content = Table(str(place / "t")), np.random.default_rng(1).bytes(hash_beside._FEW_BYTES + 100)
    with table.replace(DATE) as commit:
        commit.write_bytes(".bin", content)
    (file,) = table.existing_manifest(DATE).files
    (path,) = table.files(DATE)
    assert file.sha256 == hashlib.sha256(at(path).read_bytes()).hexdigest() and at(path).read_bytes() == content
    assert table.verify(DATE) == []
