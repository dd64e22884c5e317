// What else there is, on the same weights, batches and routes, verified against the same reference:
//   peer/eigen_loop/float/<shape>/tokens:<T>/threads:<N>    peer/openblas_loop/float/...
//   peer/onednn/float/...                                   peer/onednn/bf16/...
// The last two kinds where CMake found the libraries. Routes are given: a peer's time has no router in it.
// A peer that throws, or computes something else than the reference, says so by its label and a counter
// `wrong`, and gets no figures; that is its own failure and not one of the run. With several threads both
// ways of using them are tried first and the faster one is timed; the counter threads_over_experts says
// which.
#include "peer_loop.hpp"

#include <exception>
#include <functional>
#include <map>

#include "peer_libraries.hpp"

namespace bench {
namespace {

/// How the first call of a benchmark of this name differed from the reference; empty: not at all.
const std::string& verdict_of(const std::string& name, const std::function<std::string()>& difference) {
  static std::map<std::string, std::string> verdicts;
  const auto [at, is_new] = verdicts.try_emplace(name);
  if (is_new) at->second = difference();
  return at->second;
}

template <class Library>
void peer(benchmark::State& state, const std::string& name, const Shape& shape, Index tokens, Index threads) {
  using P = Problem<float>;
  using Loop = PeerLoop<Library>;
  const auto p = problem<float>(shape);
  std::vector<std::shared_ptr<Loop>> loops;
  for (std::size_t s = 0; s < p->size(); ++s) {
    loops.push_back(Cache::global().get<Loop>(
        "peer " + std::string(Library::kName) + " " + name_of(Library::kInstruction) + shape.name +
            std::to_string(s),
        static_cast<std::size_t>(P::bytes(shape)), [&] { return std::make_shared<Loop>(*p, p->layer(s)); }));
  }
  const auto inputs = batches<float>(rotation(*p, tokens), tokens, shape.D);
  std::vector<Routing<float>> routings;
  routings.reserve(inputs->size());
  std::vector<Cost> costs;
  const auto x = [&](std::size_t call) {
    return moe::ConstMatrixView<float>((*inputs)[call % inputs->size()].data(), tokens, shape.D);
  };
  for (std::size_t call = 0; call < inputs->size(); ++call) {
    routings.emplace_back(p->layer(call).router(), moe::LayerInput<float>(x(call)));
    costs.push_back(p->cost(routings.back()));
    costs.back().router_flops = 0;
    if (Library::kRows == RowFormat::bfloat16) costs.back().bytes /= 2;
  }
  std::vector<float> y(inputs->front().size());
  const auto run = [&](std::size_t call, typename Loop::Threads how) {
    loops[call % loops.size()]->forward(x(call).data, routings[call % routings.size()].table(), y.data(),
                                        threads, how);
  };
  auto how = Loop::Threads::inside;
  run(0, how);
  const std::string& wrong = verdict_of(name, [&] {
    return p->check(p->layer(0), x(0), moe::MatrixView<float>(y.data(), tokens, shape.D), routings[0].table(),
                    Library::kRows);
  });
  if (threads > 1) {
    const auto shortest = [&](typename Loop::Threads which) {
      double best = 1e9;
      for (std::size_t call = 0; call < 4; ++call) {  // the first makes buffers and primitives
        const auto start = std::chrono::steady_clock::now();
        run(call, which);
        best = std::min(best, seconds_since(start));
      }
      return best;
    };
    const double inside = shortest(Loop::Threads::inside);
    if (shortest(Loop::Threads::over_experts) < inside) how = Loop::Threads::over_experts;
  }
  for (std::size_t call = 0; call < inputs->size(); ++call) run(call, how);
  const LimitsBeside limits(Library::kInstruction, threads);
  Cost total;
  std::size_t call = 0;
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    run(call, how);
    benchmark::ClobberMemory();
    total += costs[call++ % costs.size()];
  }
  const double seconds = seconds_since(start);
  if (!wrong.empty()) {
    state.SetLabel("wrong result: " + wrong);
    state.counters["wrong"] = 1;
    return;
  }
  report(state, total, seconds, limits.mean());
  state.counters["threads_over_experts"] = how == Loop::Threads::over_experts ? 1 : 0;
}

template <class Library>
void add_library(const Suite& suite) {
  const char* storage = Library::kRows == RowFormat::bfloat16 ? "bf16" : "float";
  for (const Shape& shape : suite.shapes) {
    for (const Index tokens : suite.tokens) {
      for (const Index threads : {1, 2}) {
        const std::string name =
            std::string("peer/") + Library::kName + "/" + storage + "/" + cell_name(shape, tokens, threads);
        add(name, [=](benchmark::State& state) {
          try {
            peer<Library>(state, name, shape, tokens, threads);
          } catch (const std::exception& refused) {  // oneDNN 2.6: bf16 of some shapes without AVX-512
            for (auto _ : state) continue;
            state.SetLabel(std::string("failed: ") + refused.what());
            state.counters["wrong"] = 1;
          }
        });
      }
    }
  }
}

}  // namespace

void add_peers(const Suite& suite) {
  add_library<EigenLibrary>(suite);
#if defined(MOE_BENCH_OPENBLAS)
  add_library<OpenBlasLibrary>(suite);
#endif
#if defined(MOE_BENCH_ONEDNN)
  add_library<OneDnnLibrary<false>>(suite);
  add_library<OneDnnLibrary<true>>(suite);
#endif
}

}  // namespace bench
