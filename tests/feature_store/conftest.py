"""The store's tests run on a folder of the disk, and most of them once more on a bucket of a real S3 server."""

from pathlib import Path

import pytest

from tests.feature_store.places import ObjectPath, Place


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A data root of this test's own. On S3 the environment says where and with which keys."""
    if request.param == "disk":
        return tmp_path
    return ObjectPath(request.getfixturevalue("bucket"), "data")


@pytest.fixture
def is_disk(place: Place) -> bool:
    return isinstance(place, Path)
