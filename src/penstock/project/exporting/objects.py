"""The objects of Kubernetes that serve one release, as plain data; how they are written is not known here."""

from typing import Any

from penstock.core.records import Record
from penstock.core.settings import Replicas
from penstock.project.exporting.entrypoint import PORT
from penstock.project.exporting.grants import Grant
from penstock.project.exporting.image import HOME, USER, listening
from penstock.serving.limits import Limits

Object = dict[str, Any]
_LIMITS = Limits()
# Until every node knows that a pod is leaving, it goes on as if nothing were.
_UNKNOWN_S = 5
# What the supervisor adds to the time its workers have to answer what is under way.
_MARGIN_S = 10
_CPU_PERCENT = 70
_SCRATCH = "256Mi"
_HTTP = "http"


class Wanted(Record, frozen=True, kw_only=True):
    """What is to be served.

    Attributes:
        name: What its objects are called.
        release: Its reference, "movies@3".
        keep: Size of the claim on which predictions outlive their pods, as "20Gi"; None for a volume that goes with
            each pod.
        retention: How long a server keeps predictions, as "7d"; None for ever.
    """

    name: str
    pipeline: str
    release: str
    version: int
    hash: str
    image: str
    replicas: Replicas
    grant: Grant
    keep: str | None = None
    retention: str | None = None


def objects(wanted: Wanted) -> dict[str, Object]:
    """Return the objects by the name of their file, in the order in which they are applied."""
    found = {
        "service-account": _object("v1", "ServiceAccount", wanted, automountServiceAccountToken=False),
        "service": _service(wanted),
        "deployment": _deployment(wanted),
        "autoscaler": _autoscaler(wanted),
        "disruption-budget": _disruption_budget(wanted),
        "network-policy": _network_policy(wanted),
    }
    if wanted.keep is not None:
        found["predictions-claim"] = _claim(wanted, wanted.keep)
    return found


def _object(version: str, kind: str, wanted: Wanted, **rest: Any) -> Object:
    labels = {**_selector(wanted), "app.kubernetes.io/version": str(wanted.version)}
    about = {"name": wanted.name, "labels": labels, "annotations": _annotations(wanted)}
    return {"apiVersion": version, "kind": kind, "metadata": about, **rest}


def _selector(wanted: Wanted) -> dict[str, str]:
    return {"app.kubernetes.io/name": wanted.name, "app.kubernetes.io/managed-by": "penstock"}


def _annotations(wanted: Wanted) -> dict[str, str]:
    return {"penstock/pipeline": wanted.pipeline, "penstock/release": wanted.release, "penstock/hash": wanted.hash}


def _service(wanted: Wanted) -> Object:
    ports = [{"name": _HTTP, "port": 80, "targetPort": _HTTP, "protocol": "TCP"}]
    return _object("v1", "Service", wanted, spec={"type": "ClusterIP", "selector": _selector(wanted), "ports": ports})


def _deployment(wanted: Wanted) -> Object:
    spec = {
        # No number of replicas: applying this again must not undo what the autoscaler has decided.
        "selector": {"matchLabels": _selector(wanted)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "minReadySeconds": 5,
        "progressDeadlineSeconds": 600,
        "template": {
            "metadata": {"labels": _selector(wanted), "annotations": _annotations(wanted)},
            "spec": _pod(wanted),
        },
    }
    return _object("apps/v1", "Deployment", wanted, spec=spec)


def _pod(wanted: Wanted) -> Object:
    return {
        "serviceAccountName": wanted.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": int(_UNKNOWN_S + _LIMITS.drain_s + _MARGIN_S),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            _spread("kubernetes.io/hostname", wanted),
            _spread("topology.kubernetes.io/zone", wanted),
        ],
        "containers": [_container(wanted)],
        "volumes": _volumes(wanted),
    }


def _spread(key: str, wanted: Wanted) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _selector(wanted)},
    }


def _container(wanted: Wanted) -> Object:
    space, grant = "$(POD_NAMESPACE)", wanted.grant
    names = [wanted.name, *(f"{wanted.name}.{rest}" for rest in (space, f"{space}.svc", f"{space}.svc.cluster.local"))]
    arguments = [*listening(), "--workers", str(grant.workers), *(word for name in names for word in ("--name", name))]
    secret = {"secretKeyRef": {"name": f"{wanted.name}-keys", "key": "keys"}}
    return {
        "name": "server",
        "image": wanted.image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "env": [
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "PENSTOCK_SERVE_KEYS", "valueFrom": secret},
        ],
        "ports": [{"name": _HTTP, "containerPort": PORT, "protocol": "TCP"}],
        # No limit on cores: one that is held back in the middle of an answer misses its deadline while cores are idle.
        "resources": {
            "requests": {"cpu": grant.cpu, "memory": grant.memory},
            "limits": {"memory": grant.memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": _probe("/readyz", every_s=2, failures=int(_LIMITS.load_s // 2) + 30),
        "readinessProbe": _probe("/readyz", every_s=5, failures=2),
        "livenessProbe": _probe("/healthz", every_s=10, failures=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": _UNKNOWN_S}}},
        "volumeMounts": _mounts(wanted),
    }


def _probe(path: str, *, every_s: int, failures: int) -> Object:
    # Kubernetes asks by the address of the pod, which is no name of this server.
    host = [{"name": "Host", "value": "localhost"}]
    get = {"path": path, "port": _HTTP, "scheme": "HTTP", "httpHeaders": host}
    return {"httpGet": get, "periodSeconds": every_s, "timeoutSeconds": 3, "failureThreshold": failures}


def _mounts(wanted: Wanted) -> list[Object]:
    found = [{"name": "home", "mountPath": HOME}, {"name": "scratch", "mountPath": "/tmp"}]  # noqa: S108  # the pod's own
    if wanted.keep is not None:
        # A folder for each pod: a lock on a file does not reach across every kind of shared volume. The ledger stays
        # on a disk of the node.
        for part in ("predictions", "lake"):
            kept = {"name": "predictions", "mountPath": f"{HOME}/{part}", "subPathExpr": f"$(POD_NAME)/{part}"}
            found.append(kept)
    return found


def _volumes(wanted: Wanted) -> list[Object]:
    found: list[Object] = [
        {"name": "home", "emptyDir": {"sizeLimit": wanted.grant.disk}},
        {"name": "scratch", "emptyDir": {"sizeLimit": _SCRATCH}},
    ]
    if wanted.keep is not None:
        found.append({"name": "predictions", "persistentVolumeClaim": {"claimName": f"{wanted.name}-predictions"}})
    return found


def _claim(wanted: Wanted, size: str) -> Object:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": size}}}
    found = _object("v1", "PersistentVolumeClaim", wanted, spec=spec)
    found["metadata"]["name"] = f"{wanted.name}-predictions"
    return found


def _autoscaler(wanted: Wanted) -> Object:
    replicas = wanted.replicas
    target = {"type": "Utilization", "averageUtilization": _CPU_PERCENT}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": wanted.name},
        "minReplicas": max(1, replicas.min),
        "maxReplicas": replicas.max,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
    }
    return _object("autoscaling/v2", "HorizontalPodAutoscaler", wanted, spec=spec)


def _disruption_budget(wanted: Wanted) -> Object:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": _selector(wanted)}}
    return _object("policy/v1", "PodDisruptionBudget", wanted, spec=spec)


def _network_policy(wanted: Wanted) -> Object:
    asks = {"from": [{"podSelector": {}}], "ports": [{"port": _HTTP, "protocol": "TCP"}]}
    spec = {
        "podSelector": {"matchLabels": _selector(wanted)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [asks],
        "egress": [],
    }
    return _object("networking.k8s.io/v1", "NetworkPolicy", wanted, spec=spec)
