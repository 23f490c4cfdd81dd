"""The chart as helm renders it, one case per switch."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from typer.main import get_group

from fallow import __version__
from fallow.adapters.cluster import lease
from fallow.api.crds import crd
from fallow.api.kinds import KINDS
from fallow.api.metric_names import BOOKS, LINE, RECORDED
from fallow.api.reading import energy_policy, grid_zone
from fallow.app.cli import app
from fallow.app.settings import Settings
from tests.chart.rendering import CHART, Objects, helm, refusal, render

# helm is one of the Go-built programs of the test cluster
pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def plain() -> Objects:
    return render()


def rules(objects: Objects, kind: str = "ClusterRole") -> list[dict[str, Any]]:
    return [rule for role in objects.all(kind) for rule in role["rules"]]


def test_lint_finds_nothing() -> None:
    done = helm("lint", "--strict", str(CHART))

    assert done.returncode == 0, done.stdout


def test_the_chart_and_the_package_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_the_crds_are_those_of_the_models() -> None:
    shipped = {path.stem: yaml.safe_load(path.read_text()) for path in (CHART / "crds").glob("*.yaml")}

    assert shipped == {kind.plural: crd(kind) for kind in KINDS}


def test_every_value_has_a_description() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def check(part: dict[str, Any], value: Any, path: str) -> None:
        if "properties" not in part:
            assert part.get("description"), path
            return
        for name, inner in (value or {}).items():
            assert name in part["properties"], f"{path}.{name} is not in the schema"
            check(part["properties"][name], inner, f"{path}.{name}")

    check(schema, values, "")


def test_one_replica_leads_and_others_may_stand_by(plain: Objects) -> None:
    assert plain.env["FALLOW_LEADER_ELECTION"] == "true"
    assert plain.one("Deployment")["spec"]["strategy"]["type"] == "RollingUpdate"
    assert render("replicas=2").one("Deployment")["spec"]["replicas"] == 2


def test_the_lease_may_be_made_renewed_and_nothing_else(plain: Objects) -> None:
    role = [rule for rule in rules(plain, "Role") if "leases" in rule["resources"]]
    assert [(rule.get("resourceNames"), rule["verbs"]) for rule in role] == [
        (None, ["create"]),
        ([lease.NAME], ["get", "update"]),
    ]
    without = render("leaderElection.enabled=false")
    assert not [rule for rule in rules(without, "Role") if "leases" in rule["resources"]]


def test_nodes_may_be_cordoned_where_that_is_asked_for_alone(plain: Objects) -> None:
    def on_nodes(objects: Objects) -> set[str]:
        return {
            verb for rule in rules(objects, "ClusterRole") if "nodes" in rule["resources"] for verb in rule["verbs"]
        }

    assert on_nodes(plain) == {"list", "watch"}
    assert on_nodes(render("consolidation.cordon=true")) == {"list", "watch", "patch"}


def test_without_an_election_there_is_one_replica() -> None:
    said = refusal("leaderElection.enabled=false", "replicas=2")
    assert "replicas above 1 need leaderElection.enabled: true" in said


def test_without_an_election_one_operator_runs_at_a_time() -> None:
    plain = render("leaderElection.enabled=false")
    spec = plain.one("Deployment")["spec"]

    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")


def test_the_pod_is_restricted(plain: Objects) -> None:
    security = plain.container["securityContext"]

    assert plain.pod["securityContext"]["runAsNonRoot"] is True
    assert plain.pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_every_variable_is_a_setting_of_the_operator() -> None:
    objects = render(
        "prometheus.url=http://prometheus:9090",
        'prometheus.headers:={"X-Scope-OrgID":"gpu"}',
        'prometheus.matchers:={"cluster":"west"}',
        'prometheus.tokenSecret:={"name":"prometheus"}',
        'prometheus.caConfigMap:={"name":"trust"}',
        "credentials.existingSecret=carbon",
        'intensityFiles:={"configMap":{"name":"grid"}}',
        'carbonUrls:={"WattTime":"https://proxy/watttime"}',
    )
    known = {f"FALLOW_{name.upper()}" for name in Settings.model_fields}

    assert set(objects.env) | set(render('gateways:=["http://gw"]').env) <= known


def test_keys_of_providers_are_mounted_as_files_and_nothing_is_granted_for_them(plain: Objects) -> None:
    objects = render("credentials.existingSecret=carbon")
    mounts = {mount["name"]: mount for mount in objects.container["volumeMounts"]}
    volume = next(part for part in objects.pod["volumes"] if part["name"] == "credentials")

    assert volume["secret"] == {"secretName": "carbon", "defaultMode": 0o440}
    assert mounts["credentials"]["mountPath"] == objects.env["FALLOW_CREDENTIALS_DIR"]
    # a part of a volume that is mounted by its path is never renewed
    assert (mounts["credentials"]["readOnly"], "subPath" in mounts["credentials"]) == (True, False)
    assert rules(objects) + rules(objects, "Role") == rules(plain) + rules(plain, "Role")
    assert "FALLOW_CREDENTIALS_DIR" not in plain.env


def test_files_with_intensities_come_from_a_volume_of_any_kind() -> None:
    objects = render('intensityFiles:={"persistentVolumeClaim":{"claimName":"grid"}}')
    volume = next(part for part in objects.pod["volumes"] if part["name"] == "intensity")

    assert volume["persistentVolumeClaim"] == {"claimName": "grid"}
    assert objects.env["FALLOW_INTENSITY_DIR"] == "/etc/fallow/intensity"


def test_a_proxy_before_a_provider_is_passed_on_and_others_are_refused() -> None:
    objects = render('carbonUrls:={"WattTime":"https://proxy/watttime"}')

    assert json.loads(objects.env["FALLOW_CARBON_URLS"]) == {"WattTime": "https://proxy/watttime"}
    assert "carbonUrls" in refusal('carbonUrls:={"Guess":"https://proxy"}')


def test_the_settings_can_be_read_by_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = render(
        "prometheus.url=http://prometheus:9090", 'prometheus.headers:={"X-Scope-OrgID":"gpu"}', "dryRun=true"
    )
    for name, value in objects.env.items():
        monkeypatch.setenv(name, value or "fallow-system")
    settings = Settings()

    assert settings.prometheus_url == "http://prometheus:9090"
    assert settings.prometheus_headers == {"X-Scope-OrgID": "gpu"}
    assert settings.dry_run is True


def test_without_prometheus_the_operator_scrapes_directly(plain: Objects) -> None:
    assert "FALLOW_PROMETHEUS_URL" not in plain.env
    assert plain.env["FALLOW_DCGM_PORT"] == "9400"
    assert "FALLOW_AGENT_PORT" not in plain.env


def test_without_prometheus_the_operator_asks_the_agent_at_its_node() -> None:
    agent = {"agent.enabled=true", "agent.port=9501"}
    direct, scraped = render(*agent), render(*agent, "prometheus.url=http://prometheus:9090")
    ports = [
        objects.one("DaemonSet")["spec"]["template"]["spec"]["containers"][0]["ports"][0]
        for objects in (direct, scraped)
    ]
    assert (direct.env["FALLOW_AGENT_PORT"], ports[0]["hostPort"]) == ("9501", 9501)
    assert "FALLOW_AGENT_PORT" not in scraped.env
    assert "hostPort" not in ports[1]


def test_gateways_are_passed_on() -> None:
    assert json.loads(render('gateways:=["http://gw/metrics"]').env["FALLOW_GATEWAYS"]) == ["http://gw/metrics"]


def test_a_token_and_certificates_are_mounted_as_files() -> None:
    objects = render(
        "prometheus.url=https://prometheus",
        'prometheus.tokenSecret:={"name":"prometheus","key":"jwt"}',
        'prometheus.caConfigMap:={"name":"trust"}',
    )
    volumes = {volume["name"]: volume for volume in objects.pod["volumes"]}

    assert volumes["prometheus-token"]["secret"]["items"] == [{"key": "jwt", "path": "token"}]
    assert volumes["prometheus-ca"]["configMap"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    assert {mount["name"] for mount in objects.container["volumeMounts"]} == {
        "tmp",
        "prometheus-token",
        "prometheus-ca",
    }


def test_probes_ask_the_health_port(plain: Objects) -> None:
    ports = {port["name"]: port["containerPort"] for port in plain.container["ports"]}

    assert ports["health"] == int(plain.env["FALLOW_HEALTH_PORT"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert plain.container[probe]["httpGet"] == {"path": "/healthz", "port": "health"}


def test_nothing_is_granted_by_wildcard_and_no_secret_can_be_read(plain: Objects) -> None:
    for rule in rules(plain) + rules(plain, "Role"):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "secrets" not in rule["resources"]
    # a service's Deployments and Pods are never deleted by hand; parts of an older ledger are
    assert [rule["resources"] for rule in rules(plain) + rules(plain, "Role") if "delete" in rule["verbs"]] == [
        ["configmaps"]
    ]


def test_every_kind_can_be_watched_and_its_status_written(plain: Objects) -> None:
    watched = {
        resource for rule in rules(plain) if {"list", "watch"} <= set(rule["verbs"]) for resource in rule["resources"]
    }
    patched = {resource for rule in rules(plain) if "patch" in rule["verbs"] for resource in rule["resources"]}

    assert {kind.plural for kind in KINDS} <= watched
    assert {f"{kind.plural}/status" for kind in KINDS} <= patched


def test_autoscalers_of_others_can_be_watched_and_patched_and_no_more(plain: Objects) -> None:
    found = {
        (group, resource): rule["verbs"]
        for rule in rules(plain)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if group in {"autoscaling", "keda.sh"}
    }
    verbs = ["get", "list", "watch", "patch"]

    assert found == {("autoscaling", "horizontalpodautoscalers"): verbs, ("keda.sh", "scaledobjects"): verbs}


def test_pods_can_be_watched_and_annotated_and_no_more(plain: Objects) -> None:
    verbs = [verb for rule in rules(plain) if "pods" in rule["resources"] for verb in rule["verbs"]]

    assert sorted(verbs) == ["list", "patch", "watch"]


def test_only_configmaps_of_the_own_namespace_hold_the_ledger(plain: Objects) -> None:
    role = plain.one("Role")
    kept = [rule for rule in role["rules"] if rule["resources"] == ["configmaps"]]

    assert role["metadata"]["namespace"] == "fallow-system"
    assert [(rule.get("resourceNames"), rule["verbs"]) for rule in kept] == [
        (None, ["create", "delete", "get", "list"]),
        (["fallow-ledger"], ["update"]),
    ]


def test_bindings_name_the_service_account(plain: Objects) -> None:
    account = plain.one("ServiceAccount")["metadata"]["name"]

    for binding in (*plain.all("ClusterRoleBinding"), *plain.all("RoleBinding")):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "fallow-system"}]
    assert plain.pod["serviceAccountName"] == account


def test_configmaps_with_intensities_can_be_read_by_name() -> None:
    objects = render('intensityConfigMaps:=[{"namespace":"grid","name":"now"}]')
    role = next(part for part in objects.all("Role") if part["metadata"]["namespace"] == "grid")

    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["now"], "verbs": ["get"]}
    ]


def test_roles_can_be_left_to_somebody_else() -> None:
    assert not render("rbac.create=false").kinds & {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}


def test_an_existing_service_account_is_used() -> None:
    objects = render("serviceAccount.create=false", "serviceAccount.name=mine")

    assert "ServiceAccount" not in objects.kinds
    assert objects.pod["serviceAccountName"] == "mine"


def test_a_service_account_that_is_not_created_must_be_named() -> None:
    assert "serviceAccount.name must name an existing ServiceAccount" in refusal("serviceAccount.create=false")


def test_the_metrics_service_leads_to_the_operator(plain: Objects) -> None:
    service = plain.one("Service")
    labels = plain.one("Deployment")["spec"]["template"]["metadata"]["labels"]

    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["ports"][0]["targetPort"] in {port["name"] for port in plain.container["ports"]}


def test_the_metrics_service_can_be_left_out() -> None:
    assert "Service" not in render("metrics.service.create=false").kinds


def test_a_service_monitor_finds_the_metrics_service() -> None:
    objects = render("metrics.serviceMonitor.create=true", "metrics.serviceMonitor.labels.release=monitoring")
    monitor = objects.one("ServiceMonitor")

    assert monitor["metadata"]["labels"]["release"] == "monitoring"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= objects.one("Service")["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == objects.one("Service")["spec"]["ports"][0]["name"]


def test_a_service_monitor_needs_the_service() -> None:
    said = refusal("metrics.serviceMonitor.create=true", "metrics.service.create=false")

    assert "needs metrics.service.create: true" in said


def test_nothing_of_our_kinds_is_created_unasked(plain: Objects) -> None:
    assert not plain.kinds & {kind.name for kind in KINDS}


@pytest.mark.parametrize(
    ("setting", "source"),
    [
        pytest.param("defaults.gridZone.zone=DE", "Dataset", id="dataset"),
        pytest.param("defaults.gridZone.gramsPerKWh=0", "Static", id="value"),
    ],
)
def test_a_default_zone_is_one_that_the_operator_can_read(setting: str, source: str) -> None:
    zone = grid_zone(render("defaults.gridZone.create=true", setting).one("GridZone"))

    assert (zone.spec.default, zone.spec.intensity.source) == (True, source)


def test_a_default_zone_needs_a_source() -> None:
    assert "needs defaults.gridZone.zone" in refusal("defaults.gridZone.create=true")


def test_a_default_policy_only_recommends() -> None:
    policy = energy_policy(render("defaults.energyPolicy.create=true").one("EnergyPolicy"))

    assert policy.spec.mode == "Recommend"


def test_a_digest_wins_over_the_tag() -> None:
    digest = "sha256:" + "a" * 64

    assert render(f"image.digest={digest}", "image.tag=x").container["image"] == f"fallow@{digest}"


def test_names_can_be_chosen() -> None:
    assert render("fullnameOverride=green").one("Deployment")["metadata"]["name"] == "green"


@pytest.mark.parametrize(
    "setting",
    [
        "image.pullPolicy=Sometimes",
        "prometheus.url=prometheus:9090",
        "metrics.port=0",
        "defaults.energyPolicy.mode=Act",
        "cycleSeconds=0",
        "replicas=0",
    ],
)
def test_wrong_values_are_refused_by_name(setting: str) -> None:
    leaf = setting.split("=", maxsplit=1)[0].rsplit(".", maxsplit=1)[-1]

    assert leaf in refusal(setting)


def test_the_node_agent_runs_where_it_is_asked_for(plain: Objects) -> None:
    assert "DaemonSet" not in plain.kinds
    pod = render("agent.enabled=true", "agent.meters=true", "agent.port=9500").one("DaemonSet")["spec"]["template"][
        "spec"
    ]
    (container,) = pod["containers"]

    assert container["command"] == ["fallow", "agent", "--port=9500", "--meters", "--no-power-limits", "--no-clocks"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["hostPID"]


def test_the_operator_s_service_does_not_find_the_agents() -> None:
    objects = render("agent.enabled=true")
    pods = objects.one("DaemonSet")["spec"]["template"]["metadata"]["labels"]

    assert objects.one("DaemonSet")["spec"]["selector"]["matchLabels"].items() <= pods.items()
    assert not objects.one("Service")["spec"]["selector"].items() <= pods.items()
    assert not objects.one("Deployment")["spec"]["selector"]["matchLabels"].items() <= pods.items()


def test_the_node_agent_has_no_rights_and_changes_nothing() -> None:
    pod = render("agent.enabled=true").one("DaemonSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert all(mount["readOnly"] for mount in container["volumeMounts"])


@pytest.mark.parametrize(("value", "option"), [("powerLimits", "--power-limits"), ("clocks", "--clocks")])
def test_an_agent_that_limits_gpus_may_do_that_and_hear_its_orders_and_nothing_else(value: str, option: str) -> None:
    objects = render("agent.enabled=true", f"agent.{value}=true")
    pod = objects.one("DaemonSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert {one for one in container["command"] if one in {"--power-limits", "--clocks"}} == {option}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["SYS_ADMIN"]}
    assert objects.one("Role", "fallow-agent")["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}
    ]
    (subject,) = objects.one("RoleBinding", "fallow-agent")["subjects"]
    assert (subject["name"], subject["namespace"]) == (pod["serviceAccountName"], "fallow-system")
    patching = [rule for rule in objects.one("Role", "fallow-ledger")["rules"] if "patch" in rule["verbs"]]
    assert patching == [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]


def test_the_agent_s_options_are_those_of_the_command() -> None:
    (container,) = render("agent.enabled=true").one("DaemonSet")["spec"]["template"]["spec"]["containers"]
    options = {
        option
        for parameter in get_group(app).commands["agent"].params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }

    assert {option.split("=")[0] for option in container["command"][2:]} <= options


def test_every_series_of_the_books_is_recorded() -> None:
    labels = "metrics.prometheusRule.labels.release=kps"
    rules = render("metrics.prometheusRule.create=true", labels).one("PrometheusRule")
    (group,) = rules["spec"]["groups"]
    recorded = {rule["record"]: rule["expr"] for rule in group["rules"]}

    assert rules["metadata"]["labels"]["release"] == "kps"
    assert set(recorded) == {RECORDED.format(name) for name in BOOKS}
    assert all(f"({name}_total)" in recorded[RECORDED.format(name)] for name in BOOKS)
    assert all(", ".join(LINE) in expression for expression in recorded.values())
