"""Starts a command as its pod would have it: user 10001, no capabilities, nothing to gain any, and a root file system
that cannot be written; what is mounted below it stays as it is. Linux alone.

buildah has no option for that root. So root with the right to mount runs this text in the container, in mounts of its
own: `buildah run --user 0 --cap-add CAP_SYS_ADMIN CONTAINER -- python -c "$(cat docker/confined.py)" COMMAND …`
"""

from __future__ import annotations

import ctypes
import os
import sys

USER = 10001  # of docker/Dockerfile
READ_ONLY, REMOUNT, BIND = 1, 32, 4096  # mount(2): MS_RDONLY, MS_REMOUNT, MS_BIND
OWN_MOUNTS = 0x20000  # unshare(2): CLONE_NEWNS
NO_NEW_PRIVILEGES = 38  # prctl(2): PR_SET_NO_NEW_PRIVS


def call(function: str, *arguments: object) -> None:
    """A function of the C library that returns 0. OSError where it does not."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def main() -> None:
    call("unshare", OWN_MOUNTS)
    call("mount", b"none", b"/", None, READ_ONLY | REMOUNT | BIND, None)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)  # from root to another user: all capabilities are gone
    call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
