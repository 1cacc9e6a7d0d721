"""Manifests that serve one release on Kubernetes, in a folder for `kubectl apply -f`."""

import re
from pathlib import Path

from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.project.exporting.folder import new_folder
from penstock.project.exporting.grants import grant_of
from penstock.project.exporting.names import check_image, image_name, object_name
from penstock.project.exporting.objects import Object, Wanted, objects
from penstock.project.moving import find_release
from penstock.project.workspace import Workspace, read_manifest

_SIZE = re.compile(r"[1-9][0-9]{0,9}(Mi|Gi|Ti)")


class ExportedManifests(Record, frozen=True, kw_only=True):
    """A folder of manifests.

    Attributes:
        image: The image that they run.
        files: Names of the manifests.
        memory: Memory that a pod is granted, and where the number comes from.
    """

    release: str
    hash: str
    path: str
    image: str
    files: tuple[str, ...]
    memory: str


def export_kubernetes(
    release: str,
    workspace: Workspace,
    *,
    out: Path | None = None,
    image: str | None = None,
    keep: str | None = None,
) -> ExportedManifests:
    """Write a folder of manifests: deployment, service, autoscaler, disruption budget, account, network policy.

    Args:
        release: "movies@3", or "movies" for the live one.
        workspace: The project.
        out: The folder; `movies-3-kubernetes` in the current directory by default.
        image: The image that `penstock export image` gave the folder of; "movies:3-HASH" by default.
        keep: Size of a claim on which predictions outlive their pods, as "20Gi"; None for volumes that do not.

    Raises:
        InputError: The folder exists already, an option is unusable, or PyYAML is not installed.
        NotFoundError: There is no such release.
        DamagedError: A blob of the release is damaged or gone.
    """
    found = find_release(release, workspace)
    manifest = read_manifest(found.manifest_digest, workspace)
    if keep is not None and not _SIZE.fullmatch(keep):
        raise InputError(f"--keep {keep!r} is no size of a volume.", hint="write it as 20Gi")
    replicas = workspace.settings.policy(found.pipeline).serve.replicas
    wanted = Wanted(
        name=object_name(found.pipeline),
        pipeline=found.pipeline,
        release=str(found.ref),
        version=found.version,
        hash=found.hash,
        image=check_image(image or image_name(found.pipeline, found.version, found.hash)),
        replicas=replicas,
        grant=grant_of(found, manifest, replicas, workspace),
        keep=keep,
        retention=workspace.settings.policy(found.pipeline).serve.keep,
    )
    texts = {f"{name}.yaml": _yaml(content) for name, content in objects(wanted).items()}
    target = out or Path(f"{found.pipeline}-{found.version}-kubernetes")
    with new_folder(target) as folder:
        for name, text in texts.items():
            (folder / name).write_text(text)
        (folder / "README.md").write_text(_readme(wanted))
    return ExportedManifests(
        release=wanted.release,
        hash=wanted.hash,
        path=str(target),
        image=wanted.image,
        files=tuple(texts),
        memory=f"{wanted.grant.memory}: {wanted.grant.because}",
    )


def _yaml(content: Object) -> str:
    try:
        import yaml
    except ImportError as error:
        raise InputError("Manifests are written with PyYAML.", hint="pip install 'penstock[kubernetes]'") from error
    return str(yaml.safe_dump(content, sort_keys=False, default_flow_style=False))


def _readme(wanted: Wanted) -> str:
    name, grant, replicas = wanted.name, wanted.grant, wanted.replicas
    least = max(1, replicas.min)
    lines = [
        f"# {wanted.release} on Kubernetes",
        "",
        f"The image `{wanted.image}` is made from what `penstock export image {wanted.release}` writes. Then, once:",
        "",
        "    key=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')",
        f'    kubectl create secret generic {name}-keys --from-literal=keys="$key"',
        "",
        "and for each release:",
        "",
        "    kubectl apply -f .",
        f"    kubectl rollout status deployment/{name}",
        "",
        f"- Callers in the same namespace ask http://{name}/ and show a key: `authorization: Bearer KEY`. Several keys",
        "  stand apart by spaces. Without the secret no pod starts.",
        "- `network-policy.yaml` keeps out pods of other namespaces, and lets the pods themselves ask nobody.",
        f"- A pod is granted {grant.cpus:g} cores and {grant.memory} of memory: {grant.because}.",
        f"- {least} to {replicas.max} pods, more when they use more than 70 % of their cores. `target_ongoing` is for",
        "  Ray: Kubernetes does not see the requests under way.",
        *_kept(wanted),
        "- It needs Kubernetes 1.30 or later, for `lifecycle.preStop.sleep`.",
    ]
    if replicas.min < least:
        lines.append("- Policy allows no copy at all when nobody asks. This autoscaler cannot do that: it keeps one.")
    return "\n".join(lines) + "\n"


def _kept(wanted: Wanted) -> list[str]:
    if wanted.keep is not None:
        return [
            f"- Predictions stay on the claim `{wanted.name}-predictions`, in a folder for each pod, read with",
            f"  `PENSTOCK_HOME=FOLDER penstock predictions {wanted.pipeline}`. It needs a class of volumes that",
            "  several nodes can write at once (ReadWriteMany).",
        ]
    lines = [
        "- Predictions go with their pod: monitors, late truth and replays never see those that were not copied.",
        "  Export again with `--keep 20Gi`, and they stay on a volume that all pods can write.",
    ]
    if wanted.retention is None:
        lines += [
            "- Nothing removes predictions while a pod lives, and a pod that writes more than",
            f"  {wanted.grant.disk} is evicted: say in `penstock.toml`",
            f'  `[{wanted.pipeline}.serve] keep = "1d"`, and make the image again.',
        ]
    return lines
