"""What Binder makes of the repository, as far as it is known without docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from typing import Any

import pytest

from tests.support.books import INDEX
from tests.support.kernels import ROOT

PATIENCE = 120
BADGE = "https://mybinder.org/badge_logo.svg"
OPENED = f"HEAD?urlpath=lab/tree/{INDEX.relative_to(ROOT).as_posix()}"


def project() -> dict[str, Any]:
    """Returns what pyproject.toml says of pbnb."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


@pytest.fixture(scope="module")
def dockerfile(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The steps of the Dockerfile that repo2docker writes for a checkout of the repository."""
    checkout = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "binder", checkout / "binder")
    shutil.copy(ROOT / "pyproject.toml", checkout)
    done = subprocess.run(
        [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(checkout)],
        env={**os.environ, "HOME": str(checkout)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    text = re.sub(r"(?m)^#.*\n", "", done.stdout).replace("\\\n", "")
    return [line for line in map(str.strip, text.splitlines()) if line]


def the_step(dockerfile: list[str], pattern: str) -> int:
    (number,) = [n for n, step in enumerate(dockerfile) if re.search(pattern, step)]
    return number


def test_the_python_is_the_one_of_runtime_txt_and_one_that_pbnb_supports(
    dockerfile: list[str],
) -> None:
    wanted = (ROOT / "binder" / "runtime.txt").read_text("utf-8").strip()
    (version,) = re.findall(r"^python-3\.(\d+)$", wanted)
    # The name of the lock file, as repo2docker encodes it: environment.py-3.12-...
    lock = rf"environment-2epy-2d3-2e{version}-\S* /tmp/env/environment\.lock$"
    the_step(dockerfile, rf"^COPY .*{lock}")
    assert int(version) >= int(project()["requires-python"].removeprefix(">=3."))


def test_everything_is_there_when_pbnb_is_installed_and_the_user_installs_it(
    dockerfile: list[str],
) -> None:
    install = the_step(dockerfile, r"^RUN \S*/pip install .*-r \"?binder/requirements\.txt\"?$")
    assert the_step(dockerfile, r"^COPY \S+ src/ \$\{REPO_DIR\}/$") < install
    users = [step for step in dockerfile[:install] if step.startswith("USER ")]
    assert users[-1] == "USER ${NB_USER}"


def test_nothing_else_is_installed_from_the_repository(dockerfile: list[str]) -> None:
    install = re.compile(r"\b(pip|conda|mamba) (install|env)")
    installs = [step for step in dockerfile if install.search(step)]
    assert len(installs) == 1


def test_the_requirements_are_pbnb_a_lab_and_what_notebooks_show() -> None:
    text = (ROOT / "binder" / "requirements.txt").read_text("utf-8")
    wanted = [line for line in text.splitlines() if line and not line.startswith("#")]
    names = [re.split(r"[\[<>=~]", line)[0] for line in wanted]
    assert names == [".", "jupyterlab", "twisted", "numpy"]


def test_readme_opens_the_index_on_binder() -> None:
    """Without a public address the pattern is given; with one, the badge leads there."""
    readme = (ROOT / "README.md").read_text("utf-8")
    urls = project().get("urls", {})
    address = urls.get("Repository", "https://github.com/OWNER/REPOSITORY")
    owner_and_name = address.removeprefix("https://github.com/").removesuffix(".git").strip("/")
    launch = f"https://mybinder.org/v2/gh/{owner_and_name}/{OPENED}"
    assert launch in readme
    leads_to = launch if urls else "https://mybinder.org/"
    assert f"[![Binder]({BADGE})]({leads_to})" in readme
