// Stages 1 and 2 alone, of every router on the menu (examples/support/router_menu.hpp), one thread:
//   route/<router>/experts:<E>/tokens:<T>
// Rows of width 1024 in one segment, 8 experts a row (of 8 experts, 2). Counters: ns_per_token, and s2_share,
// the time over that of a whole forward of S2 (64 experts, softmax top-k) on as many tokens, measured beside
// it. Both by the clock of this process, which stands still while others have the core.
#include <chrono>
#include <ctime>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "problem.hpp"
#include "support/router_columns.hpp"
#include "support/router_menu.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

double processor_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

/// Seconds of a forward of T rows: the least of some, measured anew every half minute.
double layer_seconds(const Shape& shape, Index tokens) {
  struct Dated {
    double seconds = 0;
    Clock::time_point at;
  };
  static std::map<Index, Dated> measured;
  Dated& known = measured[tokens];
  if (known.seconds != 0 && seconds_since(known.at) < 30) return known.seconds;
  const auto p = problem<float>(shape);
  const auto rows = batches<float>(1, tokens, shape.D);
  std::vector<float> y(rows->front().size());
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), tokens, shape.D));
  moe::Workspace workspace;
  const moe::ConstMatrixView<float> x(rows->front().data(), tokens, shape.D);
  known.seconds = 1e9;
  for (std::size_t call = 0; call < (tokens <= 512 ? 8 : 4); ++call) {  // the workspace grows in the first
    const double start = processor_seconds();
    p->layer(call).forward(x, out, workspace);
    known.seconds = std::min(known.seconds, processor_seconds() - start);
  }
  known.at = Clock::now();
  return known.seconds;
}

/// What a router is called with, and the memory of its calls.
class RouteCalls {
 public:
  /// Rows from `first` on of `all`; every row is a byte.
  RouteCalls(const example::AnyRouter& router, const example::RouterSetting& setting,
             const moe::CallOptions& options, const std::vector<float>& all, Index first, Index tokens)
      : router_(router),
        columns_(bytes(first, tokens), tokens, setting.counts, router.experts(), setting.k),
        shape_{tokens, 1, options},
        pairs_(router.max_pairs(shape_)) {
    for (Index t = first; t < first + tokens; ++t) keys_.push_back(static_cast<std::uint64_t>(t));
    columns_.show(in_);
    in_.x = moe::ConstMatrixView<float>(all.data() + first * setting.width, tokens, setting.width);
    in_.row_key = keys_;
    in_.segments = moe::Segments::uniform(tokens);
    in_.options = options;
    in_.draws = moe::DrawKey{1, 1};
    bytes_ = call(moe::Arena());
  }

  void run() { call(workspace_.arena(bytes_)); }

  /// What is wrong with the route of the last call, or nothing: more pairs than announced, ids that are not
  /// there or twice, weights that are not finite, pairs that the plan lost.
  std::string difference() const {
    if (table_.pairs() > pairs_) return "more pairs than max_pairs()";
    if (table_.pairs() != plan_.slots()) return "the plan lost pairs";
    for (Index t = 0; t < table_.tokens; ++t) {
      std::set<moe::ExpertId> ids;
      for (Index p = table_.offsets[t]; p < table_.offsets[t + 1]; ++p) {
        const moe::ExpertId e = table_.expert[p];
        if (e < 0 || Index{e} >= table_.experts || !ids.insert(e).second ||
            !std::isfinite(table_.weight[p])) {
          return "row " + std::to_string(t) + ", expert " + std::to_string(e);
        }
      }
    }
    return {};
  }
  /// Experts and weights of row t.
  std::vector<std::pair<moe::ExpertId, float>> row(Index t) const {
    std::vector<std::pair<moe::ExpertId, float>> pairs;
    for (Index p = table_.offsets[t]; p < table_.offsets[t + 1]; ++p) {
      pairs.emplace_back(table_.expert[p], table_.weight[p]);
    }
    return pairs;
  }

 private:
  static std::vector<moe::TokenId> bytes(Index first, Index tokens) {
    std::vector<moe::TokenId> ids;
    for (Index t = first; t < first + tokens; ++t) ids.push_back(static_cast<moe::TokenId>(t * 37 % 256));
    return ids;
  }

  Index call(moe::Arena arena) {
    const Index experts = router_.experts();
    table_ = moe::RouteTable<float>::carve(arena, shape_.tokens, experts, pairs_);
    plan_ = moe::DispatchPlan<float>::carve(arena, shape_.tokens, experts, pairs_);
    const Index mark = arena.mark();
    if (arena.measuring()) {
      router_.measure(arena, shape_, 1);
      arena.rewind(mark);
      moe::measure_plan(arena, moe::Dropless{}, pairs_, experts);
    } else {
      router_.route(in_, table_, arena, serial_);
      arena.rewind(mark);
      moe::build_plan(table_, moe::Dropless{}, in_.segments, plan_, arena);
    }
    return arena.bytes();
  }

  const example::AnyRouter& router_;
  example::RouterColumns columns_;
  std::vector<std::uint64_t> keys_;
  moe::RouterInput<float> in_;
  moe::CallShape shape_;
  Index pairs_;
  Index bytes_ = 0;
  moe::SerialExecutor serial_;
  moe::Workspace workspace_;
  moe::RouteTable<float> table_;
  moe::DispatchPlan<float> plan_;
};

void route(benchmark::State& state, const std::string& name, const example::MenuRouter& item,
           const Shape& layer, Index experts, Index tokens) {
  example::RouterSetting setting{.width = layer.D, .experts = experts, .k = experts < 64 ? 2 : 8};
  for (Index byte = 0; byte < 256; ++byte) setting.counts.push_back(100000 / (byte + 1));
  const auto router = Cache::global().get<example::AnyRouter>(
      "router " + std::string(item.name) + std::to_string(experts),
      static_cast<std::size_t>(layer.D * experts) * sizeof(float), [&] {
        auto made = std::make_shared<example::AnyRouter>(item.make(setting));
        made->initialise(3);
        made->settle();
        return made;
      });
  const moe::CallOptions options =
      item.extras.options == nullptr ? moe::CallOptions{} : item.extras.options(setting, 1);
  const auto rows = batches<float>(1, tokens, layer.D);
  RouteCalls calls(*router, setting, options, rows->front(), 0, tokens);
  calls.run();
  if (to_verify(name)) {
    std::string wrong = calls.difference();
    const bool alone = router->coupled(false) == moe::Coupling::row_independent;
    for (const Index t : {Index{0}, tokens / 2, tokens - 1}) {
      RouteCalls again(*router, setting, options, rows->front(), alone ? t : 0, alone ? 1 : tokens);
      again.run();
      if (wrong.empty() && again.row(alone ? 0 : t) != calls.row(t)) {
        wrong = "row " + std::to_string(t) + " goes elsewhere " + (alone ? "alone" : "in a second call");
      }
    }
    if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
  }
  const double whole = layer_seconds(layer, tokens);
  const double start = processor_seconds();
  for (auto _ : state) {
    calls.run();
    benchmark::ClobberMemory();
  }
  const double seconds = (processor_seconds() - start) / static_cast<double>(state.iterations());
  state.counters["ns_per_token"] = 1e9 * seconds / static_cast<double>(tokens);
  state.counters["s2_share"] = seconds / whole;
}

}  // namespace

void add_routes(const Suite& suite) {
  const auto layer = std::find_if(suite.shapes.begin(), suite.shapes.end(),
                                  [](const Shape& shape) { return shape.name == "S2"; });
  const std::vector<Index> all_experts = suite.smoke ? std::vector<Index>{8} : std::vector<Index>{8, 64, 256};
  const std::vector<Index> all_tokens =
      suite.smoke ? std::vector<Index>{64} : std::vector<Index>{64, 512, 2048};
  for (const example::MenuRouter& item : example::router_menu()) {
    for (const Index experts : all_experts) {
      for (const Index tokens : all_tokens) {
        const std::string name = std::string("route/") + item.name + "/experts:" + std::to_string(experts) +
                                 "/tokens:" + std::to_string(tokens);
        add(name, [name, &item, shape = *layer, experts, tokens](benchmark::State& state) {
          route(state, name, item, shape, experts, tokens);
        });
      }
    }
  }
}

}  // namespace bench
