#!/bin/sh
# check_weak_symbols.sh LOWER.o HIGHER.o: contract C7 over two objects of one source, x86-64.
# Fails if a weak function that both define contains, in HIGHER.o, an instruction beyond LOWER's set (baseline SSE2):
# the linker may keep that copy for the code of LOWER.o. So may static initialisers of HIGHER.o contain none, because
# they run on every processor. Symbols that carry the ABI tag differ between the objects, hence are never common.
set -eu
LC_ALL=C
export LC_ALL
[ $# -eq 2 ] || { echo "usage: $0 LOWER.o HIGHER.o" >&2; exit 2; }

# nm letters: W, V weak; u unique (statics of inline functions).
weak() { nm --defined-only "$1" | awk '$2 ~ /^[WVu]$/ { print $3 }' | sort -u; }
listing=$(mktemp -d)
trap 'rm -rf "$listing"' EXIT
weak "$1" > "$listing/lower"
weak "$2" > "$listing/higher"
comm -12 "$listing/lower" "$listing/higher" > "$listing/common"
objdump -d -w --no-show-raw-insn "$2" > "$listing/code"

awk -v common_file="$listing/common" '
  # Beyond SSE2: VEX and EVEX encodings (mnemonics in v, wide or mask registers), BMI, ABM and what SSE3 to SSE4.2
  # brought. Not tzcnt: compilers use that encoding (rep bsf) for the baseline too.
  function beyond(mnemonic, operands) {
    if (mnemonic ~ /^v/ && mnemonic !~ /^ver[rw]$/) return 1
    if (operands ~ /%[yz]mm|%k[0-7]|%xmm(1[6-9]|2[0-9]|3[01])/) return 1
    if (mnemonic ~ /^(andn|bextr|bls(i|r|msk)|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|ad[co]x)[lq]?$/) return 1
    if (mnemonic ~ /^((lz|pop)cnt|crc32|movbe)[lqwb]?$/) return 1
    if (mnemonic ~ /^(addsubp|h(add|sub)p|blendv?p|round[ps]|dpp)[sd]$|^mov(d|sh|sl)dup$|^lddqu$|^ptest$/) return 1
    if (mnemonic ~ /^(pshufb|palignr|pmulld|pmuldq|packusdw|pcmpeqq|pcmpgtq|pmulhrsw|pmaddubsw)$/) return 1
    if (mnemonic ~ /^(insertps|extractps|pblendvb|pblendw|mpsadbw|movntdqa|phminposuw)$/) return 1
    if (mnemonic ~ /^(phadd|phsub|pabs|psign|pinsr[bdq]|pextr[bdq]|pmovsx|pmovzx|pcmp[ei]str)/) return 1
    if (mnemonic ~ /^pm(in|ax)(sb|uw|sd|ud)$/) return 1
    return 0
  }
  BEGIN { while ((getline line < common_file) > 0) { common[line] = 1; symbols++ } }
  /^[0-9a-f]+ <.*>:$/ {
    name = $2; sub(/^</, "", name); sub(/>:$/, "", name)
    # .cold, .part.0, .constprop.0 ...: pieces of a function, kept or dropped with it
    whole = name; sub(/\.(cold|part|isra|constprop|lto_priv).*$/, "", whole)
    checked = (whole in common) || name ~ /^_GLOBAL__|^__cxx_global|^_Z41__static_initialization/
    if (whole in common && !(whole in seen)) { seen[whole] = 1; functions++ }
    next
  }
  /^ *[0-9a-f]+:\t/ {
    count = split($0, field, "\t"); text = field[2]
    sub(/^(lock|rep[nz]*|bnd|notrack|data16|cs|ds|\{[a-z]+\}) +/, "", text)
    mnemonic = text; sub(/[ ].*$/, "", mnemonic)
    operands = substr(text, length(mnemonic) + 1)
    if (!beyond(mnemonic, operands)) next
    total++
    if (checked && !(name in reported)) { reported[name] = 1; bad++; print "violates C7: " name ": " text }
  }
  END {
    printf "%d weak symbols in common, %d of them functions; ", symbols, functions
    printf "%d instructions beyond the lower set\n", total
    if (!total) { print "proves nothing: the second object is not of a higher set"; exit 2 }
    exit bad > 0
  }' "$listing/code"
