"""Manifests against KubeRay's kinds and Kubernetes' own, every unknown field refused."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

KUBERNETES = "1.33"
FOLDER = Path(os.environ.get("ICH_RAY_SCHEMAS", ""))
KINDS = {"RayCluster": "rayclusters", "RayJob": "rayjobs", "RayCronJob": "raycronjobs"}


class Refused(AssertionError):
    """A manifest that a cluster would not take, or would take without what is unknown to it."""


def refuse_unknown(schema: Any) -> Any:
    """Close every object: an API server drops an unknown field of a custom resource silently."""
    if isinstance(schema, list):
        return [refuse_unknown(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {key: refuse_unknown(value) for key, value in schema.items()}
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("type") == "object" and not is_open:
        closed["additionalProperties"] = False
    return closed


@cache
def custom_resource(kind: str, version: str) -> dict[str, Any]:
    """Return the closed schema of one of KubeRay's kinds."""
    text = (FOLDER / f"ray.io_{KINDS[kind]}.yaml").read_text()
    definition = yaml.load(text, yaml.CSafeLoader)
    for served in definition["spec"]["versions"]:
        if served["name"] == version and served["served"]:
            schema = refuse_unknown(served["schema"]["openAPIV3Schema"])
            # Every kind has the metadata of Kubernetes, which these definitions leave out.
            schema["properties"]["metadata"] = {"type": "object"}
            return schema
    raise Refused(f"{kind} has no version {version}")


def check(manifest: Any) -> None:
    """Refuse a manifest that is not exactly of its kind.

    Raises:
        Refused: With the place and what is wrong there.
    """
    if not isinstance(manifest, dict) or not {"apiVersion", "kind", "metadata"} <= manifest.keys():
        raise Refused("a manifest needs apiVersion, kind and metadata")
    group, _, version = manifest["apiVersion"].rpartition("/")
    if group == "ray.io":
        if manifest["kind"] not in KINDS:
            raise Refused(f"ray.io has no kind {manifest['kind']}")
        validator = jsonschema.Draft202012Validator(
            custom_resource(manifest["kind"], version),
            format_checker=jsonschema.FormatChecker(),
        )
        for error in validator.iter_errors(manifest):
            raise Refused(f"{error.json_path}: {error.message}")
        _of_kubernetes({"apiVersion": "v1", "kind": "ConfigMap", "metadata": manifest["metadata"]})
    else:
        _of_kubernetes(manifest)


def _of_kubernetes(manifest: dict[str, Any]) -> None:
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        raise Refused(f"{error.json_path}: {error.message}") from None
    except kubernetes_validate.SchemaNotFoundError as error:
        raise Refused(error.message) from None


def pods(manifest: Any) -> list[dict[str, Any]]:
    """Find every pod template of a manifest."""
    if isinstance(manifest, list):
        return [pod for item in manifest for pod in pods(item)]
    if not isinstance(manifest, dict):
        return []
    if isinstance(manifest.get("spec"), dict) and "containers" in manifest["spec"]:
        return [manifest]
    return [pod for item in manifest.values() for pod in pods(item)]
