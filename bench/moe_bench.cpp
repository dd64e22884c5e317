// moe_bench: whole layers against this machine's own limits, and beside what else there is. Names:
//   forward/<storage>/<shape>/tokens:<T>/threads:<N>[/skew:<zipf|same>]   train/...   train_step/...
//   peer/<library>/<storage>/...    stages/...    route/<router>/...    assignment/...    schedule/...
//   soft/...    merge/...    executor/...    accuracy/...
// Each kind is described at the top of its file. Shapes (D,F,E,K): S1 = (1024,3584,8,2), S2 =
// (1024,512,64,8), S3 = (2048,1024,64,8); --moe_shape=D,F,E,K adds one. --moe_smoke divides widths by 16 and
// leaves out T > 64: every benchmark for a moment. Counters: flops_per_s, bytes_per_s, roofline = best
// possible time / measured time (docs/performance.md), and the limits beside it, peak_flops and read_bytes.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "moe/describe.hpp"
#include "suite.hpp"

namespace {

using namespace bench;

/// "D,F,E,K", or exit with a message.
Shape parse_shape(const char* text) {
  Shape shape{"custom", 0, 0, 0, 0};
  char rest = 0;
  if (std::sscanf(text, "%td,%td,%td,%td%c", &shape.D, &shape.F, &shape.E, &shape.K, &rest) != 4 ||
      shape.D < 1 || shape.F < 1 || shape.E < 1 || shape.K < 1 || shape.K > shape.E) {
    std::fprintf(stderr, "--moe_shape: expected D,F,E,K with 1 <= K <= E, got %s\n", text);
    std::exit(2);
  }
  return shape;
}

/// As the system calls the processor; "unknown" where it does not say.
std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

void describe_machine() {
  const moe::Description d = moe::describe();
  benchmark::AddCustomContext("moe", std::string(d.version) + ", " + d.instructions + ", " + d.compiler);
  benchmark::AddCustomContext("processor", processor());
  for (const Index threads : {1, 2}) {
    std::string text;
    char part[160];
    for (const Instruction i : {Instruction::fma_float, Instruction::fma_double, Instruction::dot_bfloat16,
                                Instruction::dot_int8, Instruction::dot_int4}) {
      std::snprintf(part, sizeof part, "%.1f Gop/s %s", limits_now(i, threads).peak * 1e-9, name_of(i));
      text += part;
      std::snprintf(part, sizeof part, " (%.1f with scales and sums of groups)",
                    group_peak(i, threads) * 1e-9);
      text += group_peak(i, threads) > 0 ? part : "";
      text += ", ";
    }
    std::snprintf(part, sizeof part, "%.1f GB/s read",
                  limits_now(Instruction::fma_float, threads).bytes * 1e-9);
    benchmark::AddCustomContext("limits, " + std::to_string(threads) + " thread(s)", text + part);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Suite suite{.shapes = {{"S1", 1024, 3584, 8, 2}, {"S2", 1024, 512, 64, 8}, {"S3", 2048, 1024, 64, 8}},
              .tokens = {1, 8, 64, 512, 2048}};
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--moe_shape=", 12) == 0) {
      suite.shapes.push_back(parse_shape(argv[i] + 12));
    } else if (std::strcmp(argv[i], "--moe_smoke") == 0) {
      suite.smoke = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  if (suite.smoke) {
    suite.tokens = {1, 8, 64};
    for (Shape& shape : suite.shapes) {
      shape.D = std::max<Index>(1, shape.D / 16), shape.F = std::max<Index>(1, shape.F / 16);
    }
    use_short_limits();
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  describe_machine();
  add_forward(suite);
  add_low_precision(suite);
  add_file_formats(suite);
  add_train(suite);
  add_peers(suite);
  add_stages(suite);
  add_routes(suite);
  add_assignment(suite);
  add_schedule(suite);
  add_soft(suite);
  add_merge(suite);
  add_executor(suite);
  add_accuracy();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
