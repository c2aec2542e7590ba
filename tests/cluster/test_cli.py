import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import s3fs

from ich_ray.config import Settings
from ich_ray.settings import parse
from ich_ray.storage.objects import Store
from ich_ray.storage.tables import open_table, read_rows
from jobs.cli import FAMILIES, STAGES, VIEWS, main
from jobs.reproduce import with_settings
from jobs.stage import arguments_of, settings_of
from tests.cluster.tiny_experiment import files_under

REPOSITORY = Path(__file__).parents[2]
SETTINGS_FILES = sorted(
    path for folder in ("experiments", "cluster") for path in (REPOSITORY / folder).glob("*.toml")
)


@pytest.fixture
def settings(root: Path) -> str:
    return str(root / "settings.toml")


def refused(
    capsys: pytest.CaptureFixture[str], *arguments: str, code: int, match: str, folder: Path
) -> None:
    """Expect one line of message and an exit code, and everything that was written unchanged."""
    before = files_under(folder / "store")
    assert main(arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert re.search(match, line), line
    after = files_under(folder / "store")
    # A failure leaves a row in the runs table and the record of it, and nothing else.
    told = ("runs/", "records/")
    new = {name for name in after.keys() - before.keys() if not name.startswith(told)}
    assert new == set()
    assert {name: after[name] for name in before} == before


def test_a_mistyped_setting_is_named_with_the_nearest_one(
    root: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(
        capsys,
        *("train", settings, "models.teacher.step=3"),
        code=2,
        match=r"unknown setting models\.teacher\.step; did you mean models\.teacher\.steps\?",
        folder=root,
    )


@pytest.mark.parametrize(
    ("stage", "section"),
    [
        ("ingest", "corpora"),
        ("train", "models"),
        ("pseudo-label", "pseudo_labels"),
        ("evaluate", "evaluate"),
    ],
)
def test_settings_of_another_stage_are_refused_here_and_by_submit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str, section: str
) -> None:
    text = 'identity = "public"\nstore = { root = "/shared/store" }\n'
    (tmp_path / "other.toml").write_text(text)
    there = ("--address", "http://127.0.0.1:9", "--dry-run")
    for words in ((stage, "--dry-run"), ("submit", stage, *there)):
        at = 1 + (words[0] == "submit")
        refused(
            capsys,
            *(*words[:at], str(tmp_path / "other.toml"), *words[at:]),
            code=2,
            match=rf"have no \[{section}\] section, so there is nothing to {stage}; add it, or is",
            folder=tmp_path,
        )


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("demo", "--only", "teacher"), "--only teacher: demo runs every step"),
        (("train", "--private-map", "map.csv"), "--private-map is an option of ingest"),
    ],
)
def test_an_option_of_another_stage_is_refused(
    root: Path,
    settings: str,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    match: str,
) -> None:
    refused(capsys, words[0], settings, *words[1:], code=2, match=match, folder=root)


def test_a_driver_without_a_variable_that_every_node_must_have_says_so_first(
    root: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("cluster.node_variables=['ICH_ABSENT']", "models.teacher.steps=13")
    refused(
        capsys,
        *("train", settings, "--only", "teacher", *words),
        code=2,
        match=r"this process lacks ICH_ABSENT: cluster\.node_variables names",
        folder=root,
    )


def test_models_that_need_each_other_are_refused_by_every_stage(
    root: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(
        capsys,
        *("train", settings, "models.teacher.init=student"),
        code=2,
        match=r"models need each other in a circle: teacher -> student -> teacher",
        folder=root,
    )


def test_a_missing_file_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(
        capsys,
        *("train", str(root / "none.toml")),
        code=2,
        match=r"cannot read the settings .*none\.toml",
        folder=root,
    )


def test_an_unknown_stage_or_section_is_answered_with_the_known_ones(
    root: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(
        capsys, "tain", settings, code=2, match="unknown stage 'tain'; known: ingest", folder=root
    )
    refused(
        capsys,
        *("train", settings, "--only", "techer"),
        code=2,
        match="--only techer: known are teacher, student",
        folder=root,
    )


def test_usage_errors_exit_with_2(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: ich-ray STAGE" in capsys.readouterr().out
    with pytest.raises(SystemExit) as raised:
        main(["train", settings, "--nonsense"])
    assert raised.value.code == 2


def test_own_exams_need_a_key_of_their_own(
    root: Path,
    settings: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ICH_RAY_HMAC_KEY", raising=False)
    command = ("ingest", settings, 'identity="environment"')
    refused(capsys, *command, code=2, match="set ICH_RAY_HMAC_KEY to a secret", folder=root)
    monkeypatch.setenv("ICH_RAY_HMAC_KEY", "another key than the public one")
    refused(capsys, *command, code=2, match="has pseudonyms of key", folder=root)


def test_what_needs_a_teacher_names_the_command_that_trains_it(
    root: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = "models.teacher.seed=7"
    for stage in ("pseudo-label", "evaluate"):
        refused(
            capsys,
            *(stage, settings, changed),
            code=2,
            match="model teacher has not been trained.*run ich-ray train .*--only teacher",
            folder=root,
        )


def test_a_corpus_without_a_positive_fails_the_gate_of_training(
    root: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(
        capsys,
        *("train", settings, "--only", "teacher", 'models.teacher.labelled=["b"]'),
        code=4,
        match="not one that is positive",
        folder=root,
    )


def test_patients_on_two_sides_fail_the_gate_of_pseudo_labels(
    root: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(
        capsys,
        *("pseudo-label", settings, 'pseudo_labels.pool.unlabelled=["b", "c"]'),
        code=4,
        match=r"patients of evaluate\.test are also in pseudo_labels\.pool\.unlabelled",
        folder=root,
    )


def test_a_labelled_patient_among_the_test_patients_fails_the_gate_of_evaluation(
    root: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(
        capsys,
        *("evaluate", settings, 'evaluate.test=["a"]'),
        code=4,
        match=r"patients of models\.teacher\.labelled are also in evaluate\.test",
        folder=root,
    )


def test_a_store_that_refuses_the_keys_is_no_empty_store(
    root: Path,
    settings: str,
    s3_store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    refused(
        capsys,
        *("ingest", settings, "store.root=s3://ich/refused", "store.max_attempts=2"),
        f"store.endpoint_url={s3_store.endpoint_url}",
        code=5,
        match=r"s3://ich/refused.*AWS_SECRET_ACCESS_KEY",
        folder=root,
    )
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("stage", STAGES)
def test_a_dry_run_says_what_it_would_read_and_touches_nothing(
    root: Path, settings: str, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_under(root)
    assert main([stage, settings, "--dry-run"]) == 0
    said = capsys.readouterr().out
    named = {
        "ingest": "would ingest c: ",
        "train": "labelled_slices",
        "pseudo-label": "slices_at_most: 64",
        "evaluate": "test_slices_at_most: 64",
        "demo": "pseudo-label pool",
    }
    assert named[stage] in said
    assert files_under(root) == before


@pytest.mark.parametrize("stage", STAGES)
def test_a_dry_run_of_what_was_never_done_makes_no_store(
    root: Path, settings: str, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(root / "store")
    code = main([stage, settings, "--dry-run"])
    assert code == (0 if stage in ("ingest", "demo") else 2)
    assert not (root / "store").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_results_can_be_read_as_json_one_a_line(
    root: Path, settings: str, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([stage, settings, "--json"]) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert results
    assert all(result["up_to_date"] for result in results)


def test_a_finished_stage_leaves_no_row_and_a_failed_one_its_kind(
    root: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(str(root / "store"))
    assert main(["train", settings]) == 0
    assert open_table(store, store.url("runs")) is None
    assert main(["train", settings, 'models.teacher.labelled=["b"]', "--only", "teacher"]) == 4
    table = open_table(store, store.url("runs"))
    assert table is not None
    (row,) = read_rows(store, table).to_pylist()
    assert (row["stage"], row["name"], row["outcome"]) == ("train", "teacher", "QualityError")


def test_the_module_and_the_command_are_the_same(settings: str) -> None:
    arguments = [settings, "--only", "teacher", "--dry-run", "--json"]
    command = Path(sys.executable).with_name("ich-ray")
    said = [
        subprocess.run([*start, *arguments], capture_output=True, text=True, check=True).stdout
        for start in ([sys.executable, "-m", "jobs.train"], [str(command), "train"])
    ]
    assert said[0] == said[1]
    assert json.loads(said[0])["stage"] == "train"


def test_a_refusal_has_no_traceback(settings: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.ingest", settings, "stor.root=x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ich-ray: unknown setting stor; did you mean store?\n"


@pytest.mark.parametrize("path", SETTINGS_FILES, ids=lambda path: path.name)
def test_every_settings_file_parses(path: Path) -> None:
    assert parse(Settings, path.read_text()).corpora


def commands_in(text: str) -> list[list[str]]:
    """Return every command of ours in the code of a page: in blocks, and in the running text."""
    blocks = re.findall(r"^(?: {4}|\t)(.+)$|^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in "".join(block).splitlines()]
    # What stands in backquotes in a line of prose is a command too.
    lines += re.findall(r"`([^`\n]+)`", text)
    ours = [line for line in lines if re.match("(make|ich-ray|python) ", line)]
    return [shlex.split(line, comments=True) for line in ours]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_command_that_a_page_names_exists(page: str) -> None:
    commands = commands_in((REPOSITORY / page).read_text())
    assert commands
    for command in commands:
        assert_exists(command)


def assert_exists(command: list[str]) -> None:
    program, *arguments = command
    if program == "make":
        targets = [word for word in arguments if "=" not in word]
        assert set(targets) <= make_targets(), command
        return
    if program == "python":
        assert arguments[0] == "-m", command
        module = arguments[1]
        assert module == "jobs.STAGE" or (REPOSITORY / (module.replace(".", "/") + ".py")).exists()
        return
    stage, *rest = arguments
    assert stage in (*STAGES, *FAMILIES, *VIEWS, "STAGE"), command
    if stage == "reproduce":
        rest = with_settings(rest)
    if rest and rest[0].startswith("--"):
        settings_of(arguments_of(stage, rest))
    elif rest and rest[0] != "SETTINGS.toml":
        words = "CORPUS" if stage in VIEWS else ""
        settings_of(arguments_of(stage, [str(REPOSITORY / rest[0]), *rest[1:]], words=words))


def make_targets() -> set[str]:
    text = (REPOSITORY / "Makefile").read_text().replace("\\\n", " ")
    return {
        target
        for line in text.splitlines()
        if re.match(r"[a-z].*?:(?!=)", line)
        for target in line.split(":")[0].split()
    }
