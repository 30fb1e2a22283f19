#!/bin/sh
# Runs a pipeline on a server and waits for it; fails when the run fails.
set -eu

# One key for each call: where the answer is lost, curl sends the request again, and nothing runs twice.
key="training-$(date +%s)-$$"

curl --silent --show-error --fail-with-body --max-time 3600 --retry 5 --retry-connrefused \
  --header 'Content-Type: application/json' \
  --header 'Prefer: handling=strict' \
  --header "Idempotency-Key: $key" \
  --data '{"pipeline_names": ["training"]}' \
  "${KEDRO_SERVER_URL:-http://127.0.0.1:8000}/run"
