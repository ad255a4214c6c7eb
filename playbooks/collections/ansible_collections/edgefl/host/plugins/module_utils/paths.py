"""Files as they are on this host, and how to replace them without anybody seeing half of one."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import hashlib
import os
import pwd
import stat

_SECRET_SUFFIXES = (".key", ".key.next", ".pem", ".secret")


def is_secret(path):
    """Whether nothing of the content may leave the host, not even its hash. `crl.pem` is the public exception."""
    return path.endswith(_SECRET_SUFFIXES) and not path.endswith("crl.pem")


def describe(path):
    """What lies at `path`, in the form in which the controller states what should lie there; None for nothing."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(found.st_mode):
        return {"kind": "link", "target": os.readlink(path)}
    described = {
        "kind": "directory" if stat.S_ISDIR(found.st_mode) else "file",
        "owner": _user(found.st_uid),
        "group": _group(found.st_gid),
        "mode": format(stat.S_IMODE(found.st_mode), "04o"),
    }
    if stat.S_ISREG(found.st_mode) and not is_secret(path):
        described["sha256"] = sha256(path)
    return described


def sha256(path):
    """SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as content:
        for block in iter(lambda: content.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read(path):
    """A text file's content; empty when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as content:
            return content.read()
    except FileNotFoundError:
        return ""


def write(path, content, owner, group, mode):
    """Put `content` (bytes) at `path` by a rename, with its owner and mode set before it can be seen."""
    fresh = path + ".edgefl-new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    own(fresh, owner, group, mode)
    os.replace(fresh, path)


@contextlib.contextmanager
def alone(directory):
    """Whoever replaces pairs of key and certificate there does it alone; `edgefl.pki.renew` takes the same lock."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def own(path, owner, group, mode):
    """Set owner, group and mode (an octal string)."""
    os.chown(path, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
    os.chmod(path, int(mode, 8))


def link(path, target):
    """Point the symbolic link `path` at `target`, atomically."""
    fresh = path + ".edgefl-new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    os.symlink(target, fresh)
    os.replace(fresh, path)


def _user(uid):
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid):
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
