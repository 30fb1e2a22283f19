#!/bin/sh
# Runs a pipeline on a server and waits for it; fails when the run fails.
set -eu

curl --silent --show-error --fail-with-body --max-time 3600 \
  --header 'Content-Type: application/json' \
  --header 'Prefer: handling=strict' \
  --header "Idempotency-Key: training-$(date +%F)" \
  --data '{"pipeline_names": ["training"]}' \
  "${KEDRO_SERVER_URL:-http://127.0.0.1:8000}/run"
