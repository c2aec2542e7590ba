"""URLs of local files and of objects in a store."""

import os


def is_local(url: str) -> bool:
    """Tell whether a URL is a path of this machine.

    >>> is_local("out/demo"), is_local("s3://ich/demo")
    (True, False)
    """
    return protocol(url) == "file"


def absolute(url: str) -> str:
    """Return a URL that means the same in every process.

    >>> absolute("s3://ich/demo/")
    's3://ich/demo'
    """
    return os.path.abspath(path_of(url)) if is_local(url) else url.rstrip("/")


def join(url: str, *parts: str) -> str:
    """Return the URL of something below another.

    >>> join("s3://ich/demo", "corpora", "a")
    's3://ich/demo/corpora/a'
    """
    return "/".join([url.rstrip("/"), *parts])


def protocol(url: str) -> str:
    """Return who reaches a URL: `file`, `s3`, or another name that fsspec knows."""
    head, separator, _ = url.partition("://")
    return {"s3a": "s3"}.get(head, head) if separator else "file"


def path_of(url: str) -> str:
    """Return what a URL names, as its file system wants it."""
    # fsspec's paths of the web are whole URLs.
    if "://" not in url or protocol(url) in ("http", "https"):
        return url
    return url.partition("://")[2]
