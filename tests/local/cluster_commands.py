"""Command lines of cluster/: where they stand, and whether our CLI and Ray's would take them."""

import argparse
import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml
from dockerfile_parse import DockerfileParser

from ich_ray.config import Settings
from ich_ray.errors import ConfigError
from ich_ray.settings import parse
from jobs import cli
from jobs.stage import parser_of

ROOT = Path(__file__).parents[2]
SECTIONS = {"ingest": "corpora", "train": "models", "pseudo-label": "pseudo_labels"}
KNOWN = {word for names in vars(cli).values() if isinstance(names, tuple) for word in names}
"""What `ich-ray` takes as its first word: every table of names in jobs/cli.py."""

ENDS = re.compile(r"[;&|()<>]+")


class Refused(AssertionError):
    """A command that would not run."""


def cluster_files() -> list[Path]:
    """Return every file of cluster/."""
    return [path for path in sorted((ROOT / "cluster").rglob("*")) if path.is_file()]


def commands_in(path: Path) -> list[list[str]]:
    """Return every command of a file that is ours or Ray's: in its fields and in its comments."""
    text = path.read_text()
    lines = list(_of_comments(text))
    if path.name == "Dockerfile":
        lines += _of_dockerfile(text)
    elif path.suffix == ".yaml":
        lines += [line for manifest in yaml.safe_load_all(text) for line in _of_fields(manifest)]
    return [command for line in lines for command in split(line)]


def split(line: str) -> list[list[str]]:
    """Find commands in a shell line, also behind others: `umask 077 && ray start`.

    >>> split("until_final.sh 4 60 ich-ray ingest a.toml; ray stop")
    [['ich-ray', 'ingest', 'a.toml'], ['ray', 'stop']]
    """
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    found: list[list[str]] = []
    command: list[str] = []
    for word in [*words, ";"]:
        if ENDS.fullmatch(word):
            found += _known(command)
            command = []
        elif command or not re.match(r"\w+=", word):
            command.append(word)
    return found


def _known(command: list[str]) -> Iterator[list[str]]:
    """Yield a command that is ours or Ray's, and the one that it starts."""
    if command and Path(command[0]).name == "until_final.sh":
        yield from _known(command[3:])
    elif command[:1] in (["ich-ray"], ["ray"]) or " ".join(command).startswith("python -m jobs."):
        yield command
        if "--" in command:
            yield from _known(command[command.index("--") + 1 :])


def _of_comments(text: str) -> Iterator[str]:
    for line in text.splitlines():
        said = line.lstrip().removeprefix("#").strip() if line.lstrip().startswith("#") else ""
        if re.match(r"(ich-ray|ray|python -m jobs\.\w+) ", said):
            yield said


def _of_dockerfile(text: str) -> list[str]:
    parser = DockerfileParser(fileobj=io.BytesIO(text.encode()))
    found = []
    for step in parser.structure:
        if step["instruction"] in ("RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK"):
            value = step["value"].rpartition("CMD ")[2]
            # The form of a list is YAML too.
            found.append(shlex.join(yaml.safe_load(value)) if value.startswith("[") else value)
    return found


def _of_fields(manifest: Any) -> Iterator[str]:
    if isinstance(manifest, list):
        for item in manifest:
            yield from _of_fields(item)
    if not isinstance(manifest, dict):
        return
    parts = [*manifest.get("command", []), *manifest.get("args", [])]
    if parts:
        yield shlex.join(map(str, parts))
    for key, value in manifest.items():
        if key == "entrypoint":
            yield value
        elif key.endswith("_commands"):
            yield from value
        elif key == "rayStartParams":
            # KubeRay makes `ray start` of them.
            yield shlex.join(["ray", "start", *(f"--{name}={v}" for name, v in value.items())])
        elif key not in ("command", "args"):
            yield from _of_fields(value)


def check(command: list[str]) -> None:
    """Refuse a command whose stage, flag, section or setting does not exist.

    Raises:
        Refused: With the parser's own words.
    """
    if Path(command[0]).name == "ray":
        _check_ray(command[1:])
        return
    stage, *rest = (
        [command[2][5:].replace("_", "-"), *command[3:]] if "-m" in command else command[1:]
    )
    if stage in ("-h", "--help"):
        return
    if stage not in KNOWN:
        raise Refused(f"no stage {stage!r}; known: {', '.join(sorted(KNOWN))}")
    options = _options(stage, rest)
    if stage not in SECTIONS and rest and rest[0] in cli.STAGES:
        stage = rest[0]  # `submit ingest ...` runs ingest
    for path in (word for word in rest if word.endswith(".toml")):
        settings = _settings(path, [word for word in rest if re.match(r"[a-z][\w.]*=", word)])
        known = getattr(settings, SECTIONS[stage]) if stage in SECTIONS else {"evaluate"}
        for name in options.only or []:
            if name not in known:
                raise Refused(f"--only {name}: {path} has {', '.join(known)}")


def _options(stage: str, rest: list[str]) -> argparse.Namespace:
    """Read the command by the job's own parser: its function `parser`, or every stage's."""
    module = importlib.import_module(f"jobs.{stage.replace('-', '_')}")
    parser = module.parser() if hasattr(module, "parser") else parser_of(stage)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            options: argparse.Namespace = parser.parse_intermixed_args(rest)
        except SystemExit:
            raise Refused(said.getvalue()) from None
    return options


def _settings(path: str, overrides: list[str]) -> Settings:
    """Read a settings file of the repository, which the image holds under /opt/ich_ray."""
    file = ROOT / path.removeprefix("/opt/ich_ray/")
    if not file.is_file():
        raise Refused(f"no settings file {path}")
    try:
        return parse(Settings, file.read_text(), overrides)
    except ConfigError as error:
        raise Refused(f"{path}: {error}") from None


def _check_ray(rest: list[str]) -> None:
    from ray.scripts.scripts import cli

    command: click.Command = cli
    words = list(rest)
    while isinstance(command, click.Group):
        name = words.pop(0) if words else ""
        if name not in command.commands:
            raise Refused(f"ray has no command {name!r}")
        command = command.commands[name]
    try:
        # Reads the flags and calls nothing.
        command.make_context(command.name, words)
    except click.ClickException as error:
        raise Refused(f"ray {rest[0]}: {error.format_message()}") from None
