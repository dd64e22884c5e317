# No include without use, as far as text can tell: awk -f cmake/includes.awk <files>, at the top of the source tree, all
# headers and sources at once (cmake/lint.sh). A file that includes "moe/x.hpp" (or a header of tests, bench, examples)
# names something that x.hpp declares, or a line says that it does not; exit status 1 if there is one.
# Declared is what stands at namespace scope, which this tree does not indent, and macros; comments and texts are blanked.
# Not asked of: includes of a concept (concept.hpp, core/executor.hpp) by what meets it, a test's first include (the header that it proves to
# compile alone), headers directly under include/moe, which hand on what they include, and the list `kept`.

function blank(line) {
  sub(/[ \t]*\/\/.*/, "", line)
  if (line ~ /^ *# *include/) return line
  gsub(/\\./, "", line)
  gsub(/"[^"]*"/, "\"\"", line)
  return line
}
function declare(name) {
  if (!(name in keyword) && !((here, name) in declared)) {
    declared[here, name] = 1
    names[here] = names[here] " " name
  }
}
function split_words(text, list) { gsub(/[^A-Za-z0-9_]+/, " ", text); return split(text, list, " ") }

BEGIN {
  kinds = "(enum class|enum struct|enum|class|struct|union|concept|using) +"
  n = split("if for while return requires noexcept alignas decltype sizeof static_assert operator namespace using moe std " \
            "impl test false true nullptr default delete int8_t uint8_t int32_t uint32_t int64_t uint64_t ptrdiff_t size_t", list, " ")
  for (i = 1; i <= n; ++i) keyword[list[i]] = 1

  # Handed on: names of the second count as names of the first.
  handed["moe/kernel/activation.hpp"] = "include/moe/kernel/activation_policy.hpp"
  handed["support/task_vectors.hpp"] = "include/moe/expert/bank/task_vectors.hpp"

  # Kept: <file> <what it includes without naming anything of it>
  n = split("include/moe/layer/isolated_layer.hpp moe/layer/moe_layer.hpp,\
include/moe/storage/list.hpp moe/storage/storage.hpp,\
include/moe/storage/storage.hpp moe/kernel/channel_block.hpp,\
include/moe/models/any/any_layer.hpp moe/layer/describe.hpp,\
include/moe/router/selection/concept.hpp moe/router/call_options.hpp,\
tests/core/config_test.cpp moe/core/types.hpp,\
tests/support/any_executor.hpp support/kernels.hpp", list, ",")
  for (i = 1; i <= n; ++i) kept[list[i]] = 1

  for (i = 1; i < ARGC; ++i) read(ARGV[i])
  for (header in handed) names[path[header]] = names[path[header]] names[handed[header]]
  for (i = 1; i < ARGC; ++i) check(ARGV[i])
  for (pair in kept) {
    print "cmake/includes.awk: `" pair "` needs no exception"
    found = 1
  }
  exit found
}

function read(file,    line, name, key) {
  here = file
  key = file
  sub(/^(include|tests|bench|examples)\//, "", key)
  path[key] = file
  while ((getline line < file) > 0) {
    line = blank(line)
    text[file, ++lines[file]] = line
    if (match(line, /^ *# *define +[A-Za-z0-9_]+/)) {
      name = substr(line, RSTART, RLENGTH)
      sub(/.* /, "", name)
      declare(name)
    }
    if (line !~ /^[A-Za-z\[]/ || line ~ /^template/) continue
    while (match(line, kinds "[A-Za-z_0-9]+") || match(line, /[A-Za-z_][A-Za-z_0-9]* *[(={;\[]/)) {
      name = substr(line, RSTART, RLENGTH)
      line = substr(line, RSTART + RLENGTH)
      sub("^" kinds, "", name)
      sub(/[^A-Za-z_0-9]+$/, "", name)
      declare(name)
    }
  }
  close(file)
}

function check(file,    l, n, j, w, list, used, included, other, proved) {
  if (file ~ /^include\/moe\/[^\/]*$/) return
  proved = file !~ /_test\.cpp$/
  for (l = 1; l <= lines[file]; ++l) {
    if (text[file, l] !~ /^ *# *include/) {
      n = split_words(text[file, l], list)
      for (j = 1; j <= n; ++j) used[list[j]] = 1
    } else if (text[file, l] ~ /"/) {
      other = text[file, l]
      sub(/^[^"]*"/, "", other)
      sub(/".*/, "", other)
      if (proved && other in path && other !~ /(^|\/)(concept|core\/executor)\.hpp$/) included[other] = l
      proved = 1
    }
  }
  for (other in included) {
    n = split(names[path[other]], list, " ")
    for (j = 1; j <= n && !(list[j] in used); ++j) continue
    if (n == 0 || j <= n) continue  # n == 0: it hands on others
    if ((file " " other) in kept) {
      delete kept[file " " other]
      continue
    }
    printf "%s:%d: includes %s, but names nothing of it:%s\n", file, included[other], other, names[path[other]]
    found = 1
  }
}
