"""Where the object stores are that this process was told of: whoever opens a URI below one finds its settings here.

Said once, by whoever reads a configuration, and handed to processes that work for it; what nobody told of is where the
environment says.
"""

from collections.abc import Mapping

from feature_store.storage import SCHEMES, Storage

_known: dict[str, Storage] = {}


def know(uri: str, storage: Storage | None) -> None:
    """`uri` and what lies below it is in this store; the last word counts. Of the empty URI it is what is not told."""
    if storage is not None:
        _known[_plain(uri)] = storage


def told() -> Mapping[str, Storage]:
    """All of it, for another process to `hear`."""
    return dict(_known)


def hear(stores: Mapping[str, Storage]) -> None:
    _known.update(stores)


def storage_of(uri: str) -> Storage | None:
    """Of the longest known URI that it lies below; of another in the same bucket; None: as the environment says."""
    uri = _plain(uri)
    above = [one for one in _known if one and (uri == one or uri.startswith(f"{one}/"))]
    beside = [one for one in _known if one and _bucket(one) == _bucket(uri)]
    return _known[max(above, key=len)] if above else _known[beside[0]] if beside else _known.get("")


def _plain(uri: str) -> str:
    """Without a glob's own part, and as the store spells it: s3a:// is s3://."""
    scheme, mark, rest = uri.partition("://")
    uri = f"{SCHEMES.get(scheme, scheme)}{mark}{rest}"
    first = min((uri.index(letter) for letter in "*?[" if letter in uri), default=None)
    return (uri if first is None else uri[:first].rpartition("/")[0]).rstrip("/")


def _bucket(uri: str) -> str:
    return "/".join(uri.split("/")[:3])
