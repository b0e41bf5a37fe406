"""The files in `deploy/`: schemas, the settings and times in them, and what they start, without an engine."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from configparser import ConfigParser
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import ValidationError
from jsonschema.validators import validator_for
from redis import Redis
from ruamel.yaml import YAML

from mesa_ws.cli.config import SETTINGS
from tests.examples.test_documented_numbers import END
from tests.redis_server import RedisServer
from tests.system.cli.mesa_process import LIMIT, MesaProcess
from tests.wheel import build_wheel, uv

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KEY = "0123456789abcdef"
METRICS = "9100"

yaml = YAML(typ="safe", pure=True)
COMPOSE: Mapping[str, Any] = yaml.load(DEPLOY / "compose.yaml")
MANIFEST: list[Mapping[str, Any]] = [*yaml.load_all(DEPLOY / "kubernetes.yaml")]
DOCKERFILE = re.findall(r"^([A-Z]+) (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
UNIT = ConfigParser(interpolation=None)
UNIT.optionxform = str  # type: ignore[method-assign, assignment]  # names of systemd are in mixed case
UNIT.read(DEPLOY / "mesa.service")

SECRETS = {"MESA_API_KEY": KEY, "MESA_JWT_SECRET": KEY * 2}


def of_kind(kind: str, name: str = "mesa") -> Any:
    [found] = [each for each in MANIFEST if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found["spec"]


POD = of_kind("Deployment")["template"]["spec"]
[CONTAINER] = POD["containers"]
REDIS_ARGS = COMPOSE["services"]["redis"]["command"]


def validate(document: Any, schema: Mapping[str, Any]) -> None:
    validator_for(schema)(schema).validate(document)


def schema_of(kind: str) -> dict[str, Any]:
    """The schema of a kind of Kubernetes; `tests/examples/schemas` has the part of all that is needed."""
    schema: dict[str, Any] = json.loads((Path(__file__).parent / "schemas/kubernetes.json").read_text())
    [name] = [each for each in schema["definitions"] if re.fullmatch(rf"io\.k8s\.api\.\w+\.v1\.{kind}", each)]
    return schema | {"$ref": f"#/definitions/{name}"}


def test_the_files_fit_the_schemas_of_compose_and_kubernetes() -> None:
    of_compose = json.loads(
        files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text()
    )
    validate(COMPOSE, of_compose)
    with pytest.raises(ValidationError):
        validate({"services": {"mesa": {"ulimit": 1}}}, of_compose)
    for each in MANIFEST:
        validate(each, schema_of(each["kind"]))
    with pytest.raises(ValidationError):
        validate({"kind": "Service", "apiVersion": "v1", "spec": {"port": []}}, schema_of("Service"))


def test_the_page_shows_each_file() -> None:
    blocks = re.findall(
        r"^```\w+\n(.*?)^```$", (ROOT / "docs/howto/deploy.md").read_text(), re.DOTALL | re.MULTILINE
    )
    found = [path.name for path in sorted(DEPLOY.iterdir()) if path.read_text() in blocks]
    assert found == ["Dockerfile", "compose.yaml", "kubernetes.yaml", "mesa.service"]
    assert len([*DEPLOY.iterdir()]) == len(found)


def test_names_in_the_manifest_lead_to_what_is_there() -> None:
    pods = [each["spec"]["template"] for each in MANIFEST if "template" in each["spec"]]
    for each in MANIFEST:
        selector = each["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        [pod] = [pod for pod in pods if wanted.items() <= pod["metadata"]["labels"].items()]
        [container] = pod["spec"]["containers"]
        named = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert {port["targetPort"] for port in each["spec"].get("ports", ())} <= named.keys()
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container.get(probe, {}).get("httpGet", {"port": next(iter(named))})["port"] in named
    services = [each["metadata"]["name"] for each in MANIFEST if each["kind"] == "Service"]
    assert re.findall(r"redis://([\w-]+):", str(CONTAINER["env"])) == ["mesa-redis"]
    assert {"mesa", "mesa-redis"} <= set(services)
    assert POD["enableServiceLinks"] is False  # a service `mesa` would set MESA_PORT to an address
    assert of_kind("StatefulSet", "mesa-redis")["template"]["spec"]["containers"][0]["args"] == REDIS_ARGS


def test_each_gives_a_server_time_to_end_and_file_descriptors() -> None:
    seconds = [
        int(UNIT["Service"]["TimeoutStopSec"]),
        int(COMPOSE["services"]["mesa"]["stop_grace_period"].removesuffix("s")),
        POD["terminationGracePeriodSeconds"] - int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1]),
    ]
    assert min(seconds) > END
    assert int(UNIT["Service"]["LimitNOFILE"]) == COMPOSE["services"]["mesa"]["ulimits"]["nofile"] == 65_536


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
@pytest.mark.parametrize("fault", ["", "TimeoutStopSeconds=1\n"], ids=["as it is", "with a fault"])
def test_systemd_understands_the_unit(tmp_path: Path, fault: str) -> None:
    unit = tmp_path / "mesa.service"
    text = (DEPLOY / "mesa.service").read_text().replace("/srv/app/.venv/bin/mesa", sys.executable)
    unit.write_text(text.replace("[Service]\n", f"[Service]\n{fault}"))
    found = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in found.stderr.splitlines() if "mesa.service" in line]
    assert [("TimeoutStopSeconds" in line) for line in complaints] == [True] * bool(fault)
    assert found.returncode == 0


class Start(NamedTuple):
    """How a server is started: the arguments of `mesa`, and its environment."""

    arguments: list[str]
    environment: dict[str, str]


STARTS = {
    "compose": Start(
        COMPOSE["services"]["mesa"]["command"],
        {
            name: SECRETS.get(name, value) if value.startswith("${") else value
            for name, value in COMPOSE["services"]["mesa"]["environment"].items()
        },
    ),
    "kubernetes": Start(
        CONTAINER["args"], {each["name"]: each["value"] for each in CONTAINER["env"]} | SECRETS
    ),
    "systemd": Start(shlex.split(UNIT["Service"]["ExecStart"])[1:], {"MESA_API_KEY": KEY}),
}


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=LIMIT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def is_healthy(url: str) -> bool:
    """Run the check of the compose file as it is, at another port."""
    kind, _, *arguments = COMPOSE["services"]["mesa"]["healthcheck"]["test"]
    assert kind == "CMD"
    port = url.rpartition(":")[2].partition("/")[0]
    command = [sys.executable, *(each.replace(METRICS, port) for each in arguments)]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False, timeout=LIMIT).returncode == 0


@pytest.mark.parametrize("name", STARTS)
def test_what_they_start_is_watched_and_ends_as_they_say(name: str, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import os\nfrom mesa_ws import Server\nserver = Server(os.environ['DB'])\n"
    )
    arguments, given = STARTS[name]
    assert given.keys() <= {setting.variable for setting in SETTINGS.values()}
    assert (METRICS in given.get("MESA_METRICS", "")) != (METRICS in " ".join(arguments))
    redis = RedisServer(tmp_path, *REDIS_ARGS[1:])
    redis.start()
    ports = {"MESA_PORT": "0", "MESA_API_PORT": "0", "DB": redis.url}
    environment = {each: value.replace(f":{METRICS}", ":0") for each, value in given.items()} | ports
    if "MESA_REDIS" in given:
        environment["MESA_REDIS"] = redis.url
    arguments = [each.replace(f":{METRICS}", ":0") for each in arguments]
    try:
        with MesaProcess(tmp_path, *arguments, "--json", environment=environment) as server:
            found = server.document()
            base = found["metrics_url"].removesuffix("/metrics").replace("0.0.0.0", "127.0.0.1")
            probes = {each: f"{base}{CONTAINER[f'{each}Probe']['httpGet']['path']}" for each in PROBES}
            assert {each: status(url) for each, url in probes.items()} == dict.fromkeys(PROBES, 200)
            assert is_healthy(base)
            redis.stop()
            server.wait_for(lambda: status(probes["readiness"]) == 503, "an answer that it is not ready")
            assert (status(probes["startup"]), status(probes["liveness"])) == (200, 200)
            assert not is_healthy(base)
            assert server.stopped() == 0
    finally:
        redis.stop()


PROBES = ("startup", "liveness", "readiness")


def test_redis_keeps_all_that_it_has_confirmed(tmp_path: Path) -> None:
    assert REDIS_ARGS[0] == "redis-server"
    redis = RedisServer(tmp_path, *REDIS_ARGS[1:])
    redis.start()
    try:
        with Redis.from_url(redis.url) as client:
            client.set("kept", "1")
            settings = client.config_get("append*", "maxmemory*")
        assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")
        assert (settings["maxmemory"], settings["maxmemory-policy"]) == (str(2**30), "noeviction")
        redis.stop()
        redis.start()
        with Redis.from_url(redis.url) as client:
            assert client.get("kept") == b"1"
    finally:
        redis.stop()
    assert COMPOSE["services"]["redis"]["volumes"] == ["redis:/data"]


def test_the_image_has_what_it_runs_and_no_rights(tmp_path: Path) -> None:
    once = dict(DOCKERFILE)
    user, _, group = once["USER"].partition(":")
    assert (int(user), int(group)) == (
        POD["securityContext"]["runAsUser"],
        POD["securityContext"]["runAsGroup"],
    )
    assert int(user) > 0
    ports = [str(port["containerPort"]) for port in CONTAINER["ports"]]
    assert once["EXPOSE"].split() == ports
    command = [
        *json.loads(once["ENTRYPOINT"]),
        *json.loads(once["CMD"]),
    ]  # no shell, which would keep signals
    assert command == ["mesa", *COMPOSE["services"]["mesa"]["command"]]
    [run] = [text for name, text in DOCKERFILE if name == "RUN"]
    venv, pip, *flags, wanted = [
        part for part in shlex.split(run.replace("python -m venv ", "")) if part != "&&"
    ]
    assert (pip, flags) == (f"{venv}/bin/pip", ["install", "--no-cache-dir"])
    assert once["ENV"].split()[0] == f"PATH={venv}/bin:$PATH"
    made = tmp_path / "venv"
    uv("venv", "--python", sys.executable, str(made))
    wheel = build_wheel(tmp_path / "wheel")
    uv("pip", "install", "--python", str(made / "bin/python"), f"{wanted} @ {wheel.as_uri()}")
    arguments, environment = STARTS["compose"]
    check = [made / "bin" / command[0], "check-config", *arguments[1:]]
    checked = subprocess.run(
        check, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout[:3]) == (0, "ok:"), checked.stderr
    subprocess.run([made / "bin/python", "-c", "import mesa_ws.middleware.prometheus"], check=True)
