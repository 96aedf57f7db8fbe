#!/usr/bin/env bash
# Write requirements/cpu.txt and requirements/cuda.txt anew from pyproject.toml, and docs.txt from docs.in: everything pinned,
# every file hashed.
# Needs the network; installs nothing into .venv. Run it to take newer versions, then `make install check test`.
# KEEP=1 leaves what is pinned where it is and only adds what pyproject.toml asks for beyond it.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check 'uv>=0.9'

upgrade=--upgrade
if [ -n "${KEEP:-}" ]; then upgrade=--no-upgrade; fi

# What lm-eval names and only its other metrics, its cache and its table printer load: three are sources that would have
# to be built at every install, and the last caps python-dateutil. `pip check` will say that they are missing.
cat >"$tools/overrides.txt" <<'EOF'
rouge-score ; python_version < "0"
sqlitedict ; python_version < "0"
word2number ; python_version < "0"
pytablewriter ; python_version < "0"
EOF

lock() { # lock DEVICE OPTION...   (more requirements on stdin)
  local device=$1
  shift
  echo "make lock: resolving for $device" >&2
  "$tools/bin/uv" pip compile pyproject.toml - --extra "$device" --extra test --group dev \
    --universal --python-version 3.11 --generate-hashes $upgrade --no-annotate --quiet \
    --override "$tools/overrides.txt" \
    --custom-compile-command "make lock" --output-file "requirements/$device.txt" "$@"
}

# CPU: torch is installed apart (install.py says why), and its companions are left out: text models do not need them.
# Where pip has been told of a folder with the CPU build, take it from there; otherwise from PyTorch's own index.
if [ -n "${PIP_FIND_LINKS:-}" ]; then torch=(--find-links "$PIP_FIND_LINKS"); else torch=(--torch-backend cpu); fi
echo "torch==2.13.0+cpu" | lock cpu "${torch[@]}" --no-emit-package torch --no-emit-package torchvision \
  --no-emit-package torchaudio --no-emit-package torchcodec
lock cuda </dev/null

# What builds the documentation, in an environment of its own.
echo "make lock: resolving for the documentation" >&2
"$tools/bin/uv" pip compile requirements/docs.in --universal --python-version 3.11 --generate-hashes $upgrade --no-annotate \
  --quiet --custom-compile-command "make lock" --output-file requirements/docs.txt
