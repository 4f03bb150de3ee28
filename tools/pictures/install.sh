#!/bin/sh
# Puts Grafana's own components into .shopstream/tools/pictures (640 MB); the lock names each version and its hash.
set -eu
cd "$(dirname "$0")"
folder=../../.shopstream/tools/pictures
mkdir -p "$folder"
cp package.json package-lock.json "$folder/"
(cd "$folder" && npm ci --ignore-scripts --legacy-peer-deps --no-audit --no-fund --loglevel=error >/dev/null)
