"""As much of Kubernetes, and of Dask's operator in it, as a ``KubeCluster`` meets; pods are processes of this machine.

Objects that do not fit the definitions which dask-kubernetes gives Kubernetes are refused.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from store_servers import free_port

DEFINITIONS = "dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator/crds"
READY = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
SELECTOR = {"dask.org/component": "scheduler"}


class FakeKubernetes:
    """Listens on the loopback.

    Parameters
    ----------
    package
        The folder in which dask-kubernetes lies.
    folder
        For the configuration of its clients, and what pods say.

    Attributes
    ----------
    asked
        By kind: what clients have made.
    environment
        Where clients find it.
    """

    def __init__(self, package: Path, folder: Path) -> None:
        self._definitions = package / DEFINITIONS
        self.asked: dict[str, dict[str, Any]] = {}
        self._objects: dict[str, dict[str, Any]] = {}
        self._folder = folder
        self._lock = threading.Lock()
        self._pods: list[subprocess.Popen[bytes]] = []
        self._ports = {"tcp-comm": free_port(), "http-dashboard": free_port()}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0].rstrip("/")
                with outer._lock:
                    status, answer = outer.answer(self.command, path, json.loads(body or "{}"))
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PATCH = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="kubernetes")
        self._thread.start()
        here = {"server": f"http://127.0.0.1:{self._server.server_port}"}
        config = {
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": here}],
            "users": [{"name": "somebody", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "somebody", "namespace": "ours"}}],
        }
        (folder / "config").write_text(json.dumps(config))
        self.environment = {"KUBECONFIG": str(folder / "config")}

    def close(self) -> None:
        self._end_pods()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # ---------------------------------------------------------------- API

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The status, and the body."""
        folder, _, name = path.rpartition("/")
        if path == "/version":
            return 200, {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
        if method == "POST":
            try:
                self._check(body)
            except jsonschema.ValidationError as error:
                return 422, {"message": f"{body['kind']} is invalid: {error.message}"}
            self.asked[body["kind"]] = body
            self._objects[f"{path}/{body['metadata']['name']}"] = body
            if body["kind"] == "DaskCluster":
                self._begin(folder.partition("/namespaces/")[2], body)
            return 201, body
        if path in self._objects:
            if method == "PATCH":
                self._objects[path]["spec"] |= body["spec"]
            if method == "DELETE":
                self._end_pods()
                return 200, self._objects.pop(path)
            return 200, self._objects[path]
        listed = [one for key, one in self._objects.items() if key.rpartition("/")[0] == path]
        return (200, {"items": listed}) if name in KINDS else (404, {"message": f"there is no {path}"})

    def _check(self, made: dict[str, Any]) -> None:
        text = (self._definitions / f"{made['kind'].lower()}.yaml").read_text()
        [version] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
        jsonschema.validate(
            without_nulls(made["spec"]), closed(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
        )

    # ---------------------------------------------------------------- operator

    def _begin(self, namespace: str, cluster: dict[str, Any]) -> None:
        name = cluster["metadata"]["name"]
        comm, http = self._ports["tcp-comm"], self._ports["http-dashboard"]
        own = ["--port", str(comm), "--dashboard-address", f"127.0.0.1:{http}"]
        self._start(cluster["spec"]["scheduler"], own)
        for number in range(cluster["spec"]["worker"]["replicas"]):
            own = ["--dashboard-address", "127.0.0.1:0", "--local-directory", str(self._folder)]
            address = f"tcp://127.0.0.1:{comm}"
            variables = {"DASK_WORKER_NAME": f"{name}-worker-{number}", "DASK_SCHEDULER_ADDRESS": address}
            self._start(cluster["spec"]["worker"], own, **variables)
        cluster["status"] = {"phase": "Running"}
        services, pods = (f"/api/v1/namespaces/{namespace}/{kind}" for kind in ("services", "pods"))
        named = {"namespace": namespace, "uid": "1", "labels": SELECTOR}
        self._objects[f"{pods}/scheduler"] = {
            "metadata": {"name": "scheduler", **named},
            "status": {"phase": "Running", "conditions": READY},
        }
        # A name of the cluster's own network would be found within it only.
        self._objects[f"{services}/{name}-scheduler"] = {
            "metadata": {"name": f"{name}-scheduler", **named},
            "spec": {
                "type": "LoadBalancer",
                "selector": SELECTOR,
                "ports": [{"name": port, "port": number} for port, number in self._ports.items()],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}},
        }

    def _start(self, group: dict[str, Any], own: list[str], **variables: str) -> None:
        [container] = group["spec"]["containers"]
        command = container["args"]
        for name, value in variables.items():
            command = [text.replace(f"$({name})", value) for text in command]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self._folder / "pods.log").open("ab") as log:
            self._pods.append(
                subprocess.Popen(
                    [*command, *own],
                    cwd=self._folder,
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"PATH": path} | variables,
                )
            )

    def _end_pods(self) -> None:
        pods, self._pods = self._pods, []
        for pod in reversed(pods):  # the scheduler last: workers take leave of it
            pod.terminate()
            pod.wait(30)


KINDS = ("pods", "services", "daskclusters", "daskworkergroups", "daskautoscalers")


def closed(schema: Any) -> Any:
    """The schema, that refuses fields of which it does not know; Kubernetes would drop them."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return {"additionalProperties": False, **inner} if isinstance(schema.get("properties"), dict) else inner


def without_nulls(value: Any) -> Any:
    """As Kubernetes takes it: a field that is null is one that is not there."""
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return value
