"""Each file of deploy/ is what its reader takes, and a broken copy of each is not."""

import json
import pathlib
import re
from typing import Any

import pytest
import yaml
from google.protobuf import text_format

from keras_bert_layers.serving.serving_messages import serving_message

DEPLOY = pathlib.Path(__file__).parents[1] / "deploy"
KUBERNETES_VERSION = "1.31"
CONFIG = ["models.config", "batching_parameters.pbtxt", "monitoring.config"]

if not DEPLOY.is_dir():
    pytest.skip("the package is installed without its repository", allow_module_level=True)


def validate(name: str, text: str) -> Any:
    """What a reader makes of a file; a broken one raises."""
    if name.startswith("kubernetes/"):
        kubernetes_validate = pytest.importorskip("kubernetes_validate")
        documents = list(yaml.safe_load_all(text))
        for document in documents:
            kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
            for config in document["data"] if document["kind"] == "ConfigMap" else ():
                validate(f"config/{config}", document["data"][config])
        return documents
    if name == "docker-compose.yaml":
        compose = pytest.importorskip("compose_spec").PyCompose.from_json(json.dumps(yaml.safe_load(text)))
        compose.validate()
        return compose
    if name == "config/models.config":
        config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
        return text_format.Parse(text, config_pb2.ModelServerConfig())
    if name == "config/batching_parameters.pbtxt":
        return text_format.Parse(text, serving_message("BatchingParameters")())
    if name == "config/monitoring.config":
        return text_format.Parse(text, serving_message("MonitoringConfig")())
    if name == "config/prometheus.yaml":
        return prometheus(yaml.safe_load(text))
    raise AssertionError(f"no reader for {name}")


def prometheus(config: dict[str, Any]) -> dict[str, Any]:
    """Prometheus ships no schema of its own: its documented names, and no others."""
    assert set(config) <= {"global", "scrape_configs"}
    assert set(config["global"]) <= {"scrape_interval", "scrape_timeout", "evaluation_interval"}
    for value in config["global"].values():
        assert re.fullmatch(r"\d+(ms|s|m|h)", value)
    for job in config["scrape_configs"]:
        assert set(job) <= {"job_name", "metrics_path", "scheme", "static_configs", "scrape_interval"}
        assert job["job_name"]
        for group in job["static_configs"]:
            assert all(re.fullmatch(r"[\w.-]+:\d+", target) for target in group["targets"])
    return config


# File -> what is replaced in the broken copy.
BROKEN = {
    "docker-compose.yaml": ("restart: unless-stopped", "restarts: unless-stopped"),
    "config/models.config": ("version_labels", "version_label"),
    "config/batching_parameters.pbtxt": ("max_batch_size { value: 32 }", "max_batch_size: 32"),
    "config/monitoring.config": ("enable: true", "enabled: true"),
    "config/prometheus.yaml": ("scrape_interval: 15s", "scrape_interval: often"),
    "kubernetes/autoscaler-cpu.yaml": ("maxReplicas: 8", "maxReplicas: many"),
    "kubernetes/autoscaler-gpu.yaml": ("scaleTargetRef:", "scaleTarget:"),
    "kubernetes/configmap.yaml": ("max_batch_size", "maximal_batch_size"),
    "kubernetes/deployment-cpu.yaml": ("containerPort: 8500", "containerPort: grpc"),
    "kubernetes/deployment-gpu.yaml": ("readinessProbe:", "readyProbe:"),
    "kubernetes/service.yaml": ("port: 8500", "port: first"),
    "kubernetes/volume.yaml": ("accessModes: [ReadOnlyMany]", "accessModes: ReadOnlyMany"),
}


def read(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def test_every_file_is_here():
    assert {str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*") if path.is_file()} == set(BROKEN)


@pytest.mark.parametrize("name", BROKEN)
def test_its_reader_takes_it(name):
    assert validate(name, read(name))


@pytest.mark.parametrize("name", BROKEN)
def test_and_not_a_broken_copy(name):
    before, after = BROKEN[name]
    text = read(name)
    assert before in text
    with pytest.raises(Exception) as caught:  # noqa: PT011
        validate(name, text.replace(before, after))
    # A refusal of what was changed, and no stumbling of the test.
    assert not isinstance(caught.value, (KeyError, AttributeError, ImportError, pytest.skip.Exception))


def arguments() -> dict[str, list[str]]:
    """The server's command line in each place that starts one."""
    services = yaml.safe_load(read("docker-compose.yaml"))["services"]
    found = {name: services[name]["command"] for name in ("serving-cpu", "serving-gpu")}
    for kind in ("cpu", "gpu"):
        deployment = yaml.safe_load(read(f"kubernetes/deployment-{kind}.yaml"))
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        found[f"deployment-{kind}"] = container["args"]
    return found


class TestTheyBelongTogether:
    def test_config_map_is_the_config_folder(self):
        (config_map,) = yaml.safe_load_all(read("kubernetes/configmap.yaml"))
        assert config_map["data"] == {name: read(f"config/{name}") for name in CONFIG}

    def test_canary_and_stable_are_served(self):
        (model,) = validate("config/models.config", read("config/models.config")).model_config_list.config
        assert set(model.version_labels) == {"stable", "canary"}
        assert set(model.version_labels.values()) == set(model.model_version_policy.specific.versions)

    def test_batch_sizes_ascend_to_the_largest(self):
        parameters = validate("config/batching_parameters.pbtxt", read("config/batching_parameters.pbtxt"))
        sizes = list(parameters.allowed_batch_sizes)
        assert sizes == sorted(set(sizes))
        assert sizes[-1] == parameters.max_batch_size.value

    @pytest.mark.parametrize("place", ["serving-cpu", "serving-gpu", "deployment-cpu", "deployment-gpu"])
    def test_servers_start_alike(self, place):
        given = dict(argument.removeprefix("--").split("=") for argument in arguments()[place])
        files = {given[flag] for flag in given if flag.endswith("_file")}
        assert files == {f"/config/{name}" for name in CONFIG}
        assert (given["port"], given["rest_api_port"], given["enable_batching"]) == ("8500", "8501", "true")
        # The server has no XLA unless told, and only GPU exports need it.
        assert ("xla_gpu_compilation_enabled" in given) == place.endswith("gpu")

    def test_servers_on_cpu_turn_onednn_on(self):
        compose = yaml.safe_load(read("docker-compose.yaml"))["services"]["serving-cpu"]
        assert compose["environment"]["TF_ENABLE_ONEDNN_OPTS"] == "1"
        deployment = yaml.safe_load(read("kubernetes/deployment-cpu.yaml"))
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert {"name": "TF_ENABLE_ONEDNN_OPTS", "value": "1"} in container["env"]

    def test_images_are_of_one_version(self):
        places = ("docker-compose.yaml", "kubernetes/deployment-cpu.yaml", "kubernetes/deployment-gpu.yaml")
        text = "".join(map(read, places))
        assert sorted(re.findall(r"image: tensorflow/serving:(\S+)", text)) == ["2.20.0"] * 2 + ["2.20.0-gpu"] * 2

    def test_names_and_labels_meet(self):
        service = yaml.safe_load(read("kubernetes/service.yaml"))
        for kind in ("cpu", "gpu"):
            deployment = yaml.safe_load(read(f"kubernetes/deployment-{kind}.yaml"))
            pod = deployment["spec"]["template"]
            labels = pod["metadata"]["labels"]
            assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
            assert service["spec"]["selector"].items() <= labels.items()
            scaler = yaml.safe_load(read(f"kubernetes/autoscaler-{kind}.yaml"))
            assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
            assert "replicas" not in deployment["spec"], "would undo the autoscaler at each apply"
            (container,) = pod["spec"]["containers"]
            ports = {port["name"] for port in container["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
            assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (kind == "gpu")
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
            claim = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == "models")
            name = yaml.safe_load(read("kubernetes/volume.yaml"))["metadata"]["name"]
            assert claim["persistentVolumeClaim"]["claimName"] == name


def test_the_page_names_what_is_there():
    page = (DEPLOY.parent / "docs/deployment.md").read_text(encoding="utf-8")
    named = set(re.findall(r"deploy/((?:kubernetes|config)/[\w.-]+\.\w+)", page))
    named |= {f"config/{name}" for name in re.findall(r"`config/([\w.-]+)`", page)}
    assert len(named) >= 7
    assert named <= set(BROKEN)
    # What is said of flags is what is given.
    given = {argument.split("=")[0] for place in arguments().values() for argument in place}
    assert set(re.findall(r"--(?:allow|xla)_\w+", page)) <= given
