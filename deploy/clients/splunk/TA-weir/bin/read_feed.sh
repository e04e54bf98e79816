#!/bin/sh
# What Splunk runs: the address of weir, the cursor and the token stand here.
app="${SPLUNK_HOME:?}/etc/apps/TA-weir"
mkdir -p "$app/local"
WEIR_TOKEN_FILE="${WEIR_TOKEN_FILE:-$app/local/weir.token}" \
  exec python3 "$app/bin/read_feed.py" "${WEIR_URL:-https://weir.example.com:7380/api/v1/feed/alerts}" "$app/local/weir.cursor" --heartbeat
