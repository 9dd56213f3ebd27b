#!/usr/bin/env bash
# FlagEmbedding 1.4.2 declares transformers without an upper bound that would hold it back, and pip installs it
# beside transformers 5.24.0; but importing it fails there, because transformers.modeling_attn_mask_utils, which one
# of its decoder-only re-rankers imports, is gone. With transformers 5.10.4 the same import works.
#
# Seen on 2026-11-30 (Python 3.11, torch 2.13.0, CPU):
#   5.24.0: ModuleNotFoundError: No module named 'transformers.modeling_attn_mask_utils'
#   5.10.4: imported FlagEmbedding
#
# Exits 0 while this holds, 1 once it changes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

try() {
  "$folder/venv/bin/python" -W ignore -c "
try:
    import FlagEmbedding
    print('imported FlagEmbedding')
except ImportError as error:
    print(f'{type(error).__name__}: {error}')
"
}

pip torch==2.13.0
pip FlagEmbedding==1.4.2 transformers==5.24.0
new="$(try)"
pip transformers==5.10.4
old="$(try)"
printf '5.24.0: %s\n5.10.4: %s\n' "$new" "$old"
[[ "$new" == *"transformers.modeling_attn_mask_utils"* && "$old" == "imported FlagEmbedding" ]] || {
  echo "This has changed: FlagEmbedding and transformers meet otherwise now." >&2
  exit 1
}
