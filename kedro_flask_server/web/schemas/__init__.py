"""The JSON of requests and answers: one declaration validates, dumps and documents."""

from __future__ import annotations

from marshmallow import Schema

from kedro_flask_server.web.schemas.requests import RunRequestSchema
from kedro_flask_server.web.schemas.responses import (
    DatasetSnapshotSchema,
    ErrorDetailSchema,
    ErrorResponseSchema,
    EventPageSchema,
    EventSchema,
    HealthResponseSchema,
    HTTPValidationErrorSchema,
    LivenessSchema,
    NodeSnapshotSchema,
    NodeSourceSnapshotSchema,
    PipelineSnapshotSchema,
    ProjectMetadataSnapshotSchema,
    ReadinessSchema,
    RunErrorSchema,
    RunFailureSchema,
    RunPageSchema,
    RunProgressSchema,
    RunSchema,
    RunSuccessSchema,
    RunSummarySchema,
    SnapshotFailureSchema,
    SnapshotSuccessSchema,
    ValidationErrorSchema,
)

DOCUMENTED: tuple[type[Schema], ...] = (
    RunRequestSchema,
    HealthResponseSchema,
    ErrorDetailSchema,
    RunSuccessSchema,
    RunFailureSchema,
    ProjectMetadataSnapshotSchema,
    NodeSourceSnapshotSchema,
    NodeSnapshotSchema,
    PipelineSnapshotSchema,
    DatasetSnapshotSchema,
    SnapshotSuccessSchema,
    SnapshotFailureSchema,
    RunErrorSchema,
    RunProgressSchema,
    RunSchema,
    RunSummarySchema,
    RunPageSchema,
    EventSchema,
    EventPageSchema,
    LivenessSchema,
    ReadinessSchema,
    ErrorResponseSchema,
    ValidationErrorSchema,
    HTTPValidationErrorSchema,
)
"""Every schema that openapi.json names; there, each without its ``Schema``."""
