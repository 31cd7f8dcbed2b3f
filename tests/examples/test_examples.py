"""The recipes in `examples/`: each is run as its first lines say, on a real database."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

from api.config import Settings, variable_name
from benchmarks.servers import free_port
from tests.project.code import ROOT
from tests.support import postgres
from tests.support.cases import THOROUGH
from tests.support.processes import APICTL, Finished, bare_environment, run

EXAMPLES: Final = ROOT / "examples"
SETTINGS: Final = {variable_name(name) for name in Settings.model_fields}


@pytest.fixture
def environment(empty_url: str) -> dict[str, str]:
    """A shell in which `apictl` is the installed command, and an empty database."""
    path = f"{APICTL.parent}:{bare_environment()['PATH']}"
    return bare_environment(APICTL_DATABASE_URL=empty_url, APICTL_LISTEN_PORT=str(free_port()), PATH=path)


def read(name: str) -> str:
    return (EXAMPLES / name).read_text(encoding="utf-8")


async def bash(script: str, environment: dict[str, str]) -> Finished:
    """Run a script as CI does: the first failure ends it."""
    return await run("--noprofile", "--norc", "-euo", "pipefail", "-c", script, environment=environment, program="bash")


def test_each_is_in_the_list_and_says_what_it_does() -> None:
    named = re.findall(r"\]\(([^)]+)\)", read("README.md"))
    there = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*") if path.is_file()}
    folders = {name.partition("/")[0] for name in there - {"README.md"}}
    assert {name.partition("/")[0] for name in named} == folders
    assert set(named) <= there
    for name in named:
        assert "How to run it" in read(name), name


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_scripts_are_clean() -> None:
    scripts = [path.read_text(encoding="utf-8") for path in EXAMPLES.rglob("*.sh")]
    for script in [*scripts, *(f"#!/bin/bash\n{step['run']}" for step in ci_job()["steps"])]:
        checked = subprocess.run(["shellcheck", "-"], input=script, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


def ci_job() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load(read("ci/workflow.yml"))["jobs"]["test"]
    return job


@pytest.mark.skipif(not THOROUGH, reason="a dozen processes from nothing: CI's second run has it")
async def test_the_ci_workflow(environment: dict[str, str], tmp_path: Path) -> None:
    job = ci_job()
    assert {name for name in job["env"] if name.startswith("APICTL_")} <= SETTINGS
    # Its own values, but for the addresses, and the folder that is the container's.
    environment = job["env"] | {"KEY_FILE": str(tmp_path / "keys" / "ci.key")} | environment
    for step in job["steps"]:
        ended = await bash(step["run"], environment)
        assert ended.code == 0, (step["name"], ended)
        assert "apictl_key_" not in ended.out + ended.err


async def test_the_state(environment: dict[str, str], tmp_path: Path) -> None:
    job = yaml.safe_load(read("state/workflow.yml"))["jobs"]["accounts"]
    assert {name for name in job["env"] if name.startswith("APICTL_")} <= SETTINGS | {"APICTL_TOKEN"}
    assert (await bash("apictl migrate --quiet", environment)).code == 0
    # On a database instead of that server: the same commands, and the same answers.
    environment = environment | {"KEYS": str(tmp_path / "keys.jsonl")}
    planned, applied, clean = [
        await bash(f"cd {EXAMPLES / 'state'}; {step['run']}", environment) for step in job["steps"] if "run" in step
    ]
    assert [ended.code for ended in (planned, applied, clean)] == [0, 0, 0], (planned, applied, clean)
    assert planned.out.endswith("5 to be created; 0 unchanged.\n")
    assert applied.out.endswith("5 created; 0 unchanged.\n")
    assert clean.out == "5\n"
    assert json.loads((tmp_path / "keys.jsonl").read_text())["user"] == "nightly-report"


@pytest.mark.skipif(not THOROUGH, reason="two dozen processes from nothing: CI's second run has it")
async def test_the_shell_script(environment: dict[str, str], tmp_path: Path) -> None:
    script = str(EXAMPLES / "shell" / "provision.sh")
    first, second = [
        await run(environment=environment | {"ADMIN": "ada@example.com"}, program=script) for _ in range(2)
    ]
    assert (first.code, second.code) == (0, 0), (first.err, second.err)
    assert "changed=6" in first.out
    assert "changed=0" in second.out
    assert "changed " not in second.out
    assert first.out.count("\n") == second.out.count("\n") + 1
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()}
    assert modes == {"admin.password": 0o600, "nightly-report.key": 0o600}
    # What somebody changed by hand is put right again.
    by_hand = "apictl update-role reports --scope users:read --scope roles:read"
    assert (await bash(by_hand, environment)).code == 0
    mended = await run(environment=environment | {"ADMIN": "ada@example.com"}, program=script)
    assert "changed  scopes of reports" in mended.out
    assert "changed=1" in mended.out


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others than root may enter: pytest's own are not."""
    with TemporaryDirectory(prefix="apictl-tests-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


async def test_the_kubernetes_job(environment: dict[str, str], folder: Path) -> None:
    """Its command line, as its user, in a folder as the Secret's volume is: root's, and nobody can write there."""
    claim, job = yaml.safe_load_all(read("kubernetes/job.yaml"))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (job["kind"], job["apiVersion"], pod["restartPolicy"]) == ("Job", "batch/v1", "Never")
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "env" not in container
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts) == set(volumes)
    assert (mounts["secrets"]["mountPath"], mounts["secrets"]["readOnly"]) == (container["workingDir"], True)
    assert volumes["keys"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["operator"], 7 in rule["onExitCodes"]["values"]) == (
        "FailJob", "NotIn", True,
    )  # fmt: skip

    places = {mounts[name]["mountPath"]: folder / name for name in mounts}
    secrets, keys = places[mounts["secrets"]["mountPath"]], places[mounts["keys"]["mountPath"]]
    secrets.mkdir()
    keys.mkdir()
    # Over TCP, as there: the test's server may listen at a socket that this user cannot reach.
    url, port = urlsplit(environment["APICTL_DATABASE_URL"]), free_port()
    there = f"postgresql://{url.username}:{url.password}@127.0.0.1:{port}{url.path}"
    (secrets / ".env").write_text(f"APICTL_DATABASE_URL={there}\n", encoding="utf-8")
    (secrets / "admin-password").write_text("correct horse battery staple\n", encoding="utf-8")
    line = [*container["command"], *container["args"]]
    for mounted, here in places.items():
        line = [part.replace(mounted, str(here)) for part in line]
    as_whom, user, group = [], pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]
    for path in secrets.iterdir():
        path.chmod(volumes["secrets"]["secret"]["defaultMode"])
    if os.geteuid() == 0:
        for path in [*secrets.iterdir(), keys]:
            os.chown(path, 0, group)
        keys.chmod(0o2775)
        as_whom = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    program, *arguments = as_whom + line
    bare = bare_environment(PATH=environment["PATH"], HOME="/nonexistent")
    async with postgres.over_tcp(environment["APICTL_DATABASE_URL"], port):
        for changed in True, False:
            ended = await run(*arguments, environment=bare, cwd=secrets, program=program)
            assert ended.code == 0, ended.err
            assert ended.json()["changed"] is changed
    key = keys / "reports" / "key"
    assert (key.stat().st_mode & 0o777, sorted(path.name for path in folder.rglob("*") if path.is_file())) == (
        0o600,
        [".env", "admin-password", "key"],
    )
