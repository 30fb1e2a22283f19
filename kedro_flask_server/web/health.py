"""Whether the server is there, and whether it can take runs in."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from kedro_flask_server.web.authentication import current_caller
from kedro_flask_server.web.kedro_server import KedroServer
from kedro_flask_server.web.schemas.responses import HealthResponseSchema

HEALTH_BLUEPRINT = "kedro_server_health"
HEALTH_PATHS = ("/health", "/health/live", "/health/ready")
"""What answers everybody, under any host's name: those that ask know the address alone."""

QUICK_PATHS = HEALTH_PATHS[:2]
"""What is answered without waiting for anything, the database included."""

HEALTH_ENDPOINTS = tuple(f"{HEALTH_BLUEPRINT}.{name}" for name in ("health", "live", "ready"))


def create_health_blueprint(server: KedroServer) -> Blueprint:
    """Return the blueprint of ``/health``, which Kedro's own server has, and of the probes."""
    runs, kedro_version = server.runs, server.project.kedro_version
    blueprint = Blueprint(HEALTH_BLUEPRINT, __name__)
    healthy = HealthResponseSchema().dump({"status": "healthy", "kedro_version": kedro_version})

    @blueprint.get("/health")
    def health() -> ResponseReturnValue:
        """Health.

        Answers as long as the server does; callers who are known are told Kedro's version, too.
        ---
        operationId: health_health_get
        tags: [health]
        responses:
          200:
            description: The server answers.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/HealthResponse"}
        """
        if current_caller() is None:
            return {"status": "healthy"}
        return jsonify(healthy)

    @blueprint.get("/health/live")
    def live() -> ResponseReturnValue:
        """Liveness.

        Whether the server is there, and all its threads: one that answers otherwise, or not at
        all, should be started again. It says nothing of the store and the network.
        ---
        operationId: get_liveness
        tags: [health]
        responses:
          200:
            description: The server is there.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/Liveness"}
                example: {status: alive}
          503: {$ref: "#/components/responses/NotAlive"}
        """
        dead = runs.dead_threads()
        if not dead:
            return {"status": "alive"}
        detail = f"Threads have ended that the server cannot do without: {', '.join(dead)}."
        return {"status": "not alive", "detail": f"{detail} Start it again."}, 503

    @blueprint.get("/health/ready")
    def ready() -> ResponseReturnValue:
        """Readiness.

        Whether runs can be taken in and executed: the store of the runs is reachable, the
        project's pipelines are loaded, worker processes can be had, and the server is not stopping.
        ---
        operationId: get_readiness
        tags: [health]
        responses:
          200:
            description: They can.
            content:
              application/json:
                schema: {$ref: "#/components/schemas/Readiness"}
                example: {status: ready}
          503: {$ref: "#/components/responses/NotReady"}
        """
        faults = runs.faults()
        caller = current_caller()
        is_told = caller is not None and caller.sees_messages
        if not faults:
            warnings = runs.served.warnings() if is_told else {}
            return {"status": "ready", **({"warnings": warnings} if warnings else {})}
        if not is_told:
            faults = dict.fromkeys(faults, "Callers who are known are told why.")
        detail = " ".join(f"{name}: {reason}" for name, reason in faults.items())
        return (
            {"status": "not ready", "detail": detail, "faults": faults},
            503,
            {"Retry-After": "5"},
        )

    return blueprint
