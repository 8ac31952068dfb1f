#!/usr/bin/env bash
# Make .venv with the locked dependencies: tools/setup.sh [cpu|gpu], or add to it: tools/setup.sh
# remote|smollm2|gym|docs. Called by make; a second call returns at once. With --stamp after the name it only prints the file
# that marks an environment of this lock as complete.
set -euo pipefail
cd "$(dirname "$0")/.."

flavour=${1:-cpu}
lock=requirements/$flavour.txt
[ -f "$lock" ] || { echo "error: $lock: no such file; EXTRA is cpu or gpu" >&2; exit 2; }
uv_version=0.13.9
torch=$(grep -oE '^torch==[^ ]+' "$lock" || true)
layout=1  # raise it if the environment of the same lock changes: uv, its options, what is written below
stamp=.venv/.ready-$({ echo "$layout"; cat "$lock"; } | sha256sum | cut -c1-16)
if [ "${2:-}" = --stamp ]; then echo "$stamp"; exit 0; fi
if [ -f "$stamp" ]; then exit 0; fi

python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || { echo "error: $python was not found; install Python 3.11, or set its path: make PYTHON=..." >&2; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "error: $python is not Python 3.11" >&2; exit 2; }
# vLLM compiles parts of itself when it starts.
command -v g++ >/dev/null || { echo "error: g++ was not found; vLLM needs a C++ compiler, so install one (Debian, Ubuntu: apt install g++)" >&2; exit 2; }
"$python" -c 'import pathlib, sys, sysconfig; sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").is_file())' \
  || { echo "error: $python has no header files (Python.h), which vLLM compiles with; install them (Debian, Ubuntu: apt install python3.11-dev)" >&2; exit 2; }
free_kb=$(df -Pk . | awk 'NR==2 {print $4}')
if [ "$free_kb" -lt 6000000 ]; then echo "error: the environment needs 6 GB of disk space, but only $((free_kb / 1000000)) GB are free" >&2; exit 2; fi

more=$(case $flavour in remote|smollm2|gym|docs) echo yes;; esac)
[ -n "$more" ] || echo "[setup] making .venv from $lock (once, a few minutes)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null  # an environment made by uv
.venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version"

# uv does not read pip's settings; what was configured for pip (a mirror, a folder of wheels) is meant for us too.
setting() {  # setting ENVIRONMENT_NAME pip-option
  local value=${!1:-}
  [ -n "$value" ] || value=$(.venv/bin/python -m pip config get "global.$2" 2>/dev/null || true)
  echo "$value" | tr '\n' ' ' | sed 's/ *$//'
}
links=$(setting PIP_FIND_LINKS find-links)
index=$(setting PIP_INDEX_URL index-url)
[ -z "$links" ] || export UV_FIND_LINKS=${UV_FIND_LINKS:-$(echo "$links" | tr ' ' ',')}
[ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
[ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}
export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
# Compiled here, once. Where PYTHONDONTWRITEBYTECODE is set or .venv is read-only, each process would compile its imports anew.
install() { .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python "$@"; }

if [ -n "$more" ]; then  # remote is locked together with cpu.txt, of which it replaces a version or two
  install --no-deps -r "$lock"
  touch "$stamp"
  exit 0
fi

# torch's CPU build first: from the configured sources, else from PyTorch's own index. A plain torch would bring CUDA.
if [ "$flavour" = cpu ] && ! install --no-deps "$torch" 2>/dev/null; then
  echo "[setup] $torch is not in the configured sources; installing it from PyTorch's index"
  install --no-deps --torch-backend cpu "$torch"
fi
install -r "$lock"
# The project runs from its checkout and is not installed; this is `python -m astro` by a shorter name.
printf '#!/bin/sh\nexec "$(dirname "$0")/python" -m astro "$@"\n' > .venv/bin/astro && chmod +x .venv/bin/astro
rm -f .venv/.ready-*
touch "$stamp"
echo "[setup] done"
