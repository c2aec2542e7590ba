"""No file of cluster/ holds a secret: it names where one is kept."""

import re
from pathlib import Path

import pytest

from tests.local.cluster_commands import cluster_files

SECRETS = {
    "a key of a cloud": r"\b(AKIA|ASIA|AIza|ghp_|xox[bp]-)\w{8,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a credential in a URL": r"\w+://[^\s/:@]+:[^\s/@]+@",
    "a long random word": r"(?<![\w/.-])(?=\w*\d)(?=\w*[a-zA-Z])[A-Za-z0-9+]{32,}={0,2}(?![\w/.-])",
    "a Secret with its content": r"(?m)^(stringData|data):|\bkind: Secret\b",
    "a variable with its value": r"(?i)\b\w*(token|secret|password|hmac_key|access_key\w*)"
    r"[\"']?\s*(=|:|,\s*value:)\s*[\"']?(?!\$|\.\.\.|/dev/stdin)[\w+/-]{8,}",
}


def secrets_in(text: str) -> list[str]:
    # What names a secret, and where it is kept, is none.
    text = re.sub(r"(secretName|--secret|--secret-id|--from-env-file)[=:]? ?\S+", "", text)
    return [what for what, pattern in SECRETS.items() if re.search(pattern, text)]


@pytest.mark.parametrize("path", cluster_files(), ids=lambda path: path.name)
def test_no_file_of_the_folder_holds_a_secret(path: Path) -> None:
    assert secrets_in(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "aws_access_key_id: AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN RSA PRIVATE KEY-----",
        "endpoint_url = http://user:pass1234@store:8333",
        "  - 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "kind: Secret",
        "stringData:",
        "{ name: RAY_AUTH_TOKEN, value: correct-horse-battery }",
        "--env=ICH_RAY_HMAC_KEY=correct-horse-battery",
        "AWS_SECRET_ACCESS_KEY=correct/horse/battery",
    ],
)
def test_a_planted_secret_is_found(line: str) -> None:
    assert secrets_in(f"# before\n{line}\n# after\n") != []
