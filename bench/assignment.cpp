// Balanced assignments of T rows to E outputs, one thread:
//   assignment/<auction|sinkhorn|hungarian>/tokens:<T>/experts:<E>
// The scores are normal, and some outputs are liked by all. Verified first: shares, and against the exact
// solver of the tests that the auction is within its bound of the greatest sum (T <= 1024, where that ends in
// time). Counters: rows_per_s; value, the sum of the chosen scores over the greatest (Sinkhorn chooses each
// row's best of the plan, which is nearly balanced, and may be above 1 for that).
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "moe/core/workspace.hpp"
#include "moe/router/auction.hpp"
#include "moe/router/sinkhorn.hpp"
#include "suite.hpp"
#include "support/exact_assignment.hpp"

namespace bench {
namespace {

constexpr double kTolerance = 1e-3;
constexpr Index kExact = 1024;  // rows

struct Scores {
  Index rows, outputs;
  std::vector<double> flat;
  std::vector<std::vector<double>> of;
  double best = 0, range = 0;

  Scores(Index rows_, Index outputs_) : rows(rows_), outputs(outputs_) {
    std::mt19937_64 draw(static_cast<std::uint64_t>(rows + outputs));
    std::normal_distribution<double> normal;
    std::vector<double> liked;
    for (Index e = 0; e < outputs; ++e) liked.push_back(normal(draw));
    for (Index t = 0; t < rows; ++t) {
      of.emplace_back();
      for (const double by : liked) of.back().push_back(by + normal(draw));
      flat.insert(flat.end(), of.back().begin(), of.back().end());
    }
    const auto [low, high] = std::minmax_element(flat.begin(), flat.end());
    range = *high - *low;
    if (rows <= kExact) best = test::assignment_value(of, test::exact_assignment(of));
  }
};

double value_of(const Scores& scores, const std::vector<moe::ExpertId>& out) {
  return test::assignment_value(scores.of, {out.begin(), out.end()});
}
void report_value(benchmark::State& state, const Scores& scores, double value) {
  state.SetItemsProcessed(state.iterations() * scores.rows);
  state.counters["rows_per_s"] =
      benchmark::Counter(static_cast<double>(scores.rows), benchmark::Counter::kIsIterationInvariantRate);
  if (scores.rows <= kExact) state.counters["value"] = value / scores.best;
}

void auction(benchmark::State& state, const std::shared_ptr<const Scores>& scores) {
  const Index rows = scores->rows, outputs = scores->outputs;
  moe::Arena measuring;
  moe::BalancedAuction::measure(measuring, rows, outputs);
  moe::Workspace workspace;
  std::vector<double> value;
  std::vector<moe::ExpertId> out(static_cast<std::size_t>(rows));
  const auto run = [&] {
    value = scores->flat;
    moe::Arena arena = workspace.arena(measuring.bytes());
    moe::BalancedAuction(arena, rows, outputs).run(value.data(), rows, outputs, kTolerance, out.data());
  };
  run();
  std::vector<Index> load(static_cast<std::size_t>(outputs), 0);
  for (const moe::ExpertId e : out) ++load[static_cast<std::size_t>(e)];
  for (const Index n : load) {
    if (n < rows / outputs || n > moe::ceil_div(rows, outputs)) return state.SkipWithError("unequal shares");
  }
  const double sum = value_of(*scores, out);
  const double bound = static_cast<double>(rows) * kTolerance * scores->range;
  if (rows <= kExact && (sum < scores->best - bound || sum > scores->best + 1e-9 * bound)) {
    return state.SkipWithError("the sum is not within its bound of the greatest");
  }
  for (auto _ : state) {
    run();
    benchmark::ClobberMemory();
  }
  report_value(state, *scores, sum);
}

void sinkhorn(benchmark::State& state, const std::shared_ptr<const Scores>& scores) {
  const Index rows = scores->rows, outputs = scores->outputs;
  moe::Arena measuring;
  moe::Sinkhorn::measure(measuring, rows, outputs);
  moe::Workspace workspace;
  std::vector<double> g(static_cast<std::size_t>(outputs)), p(g);
  moe::SerialExecutor serial;
  Index iterations = 0;
  const auto run = [&] {
    moe::Arena arena = workspace.arena(measuring.bytes());
    const moe::Sinkhorn plan(arena, rows, outputs);
    iterations = plan.run(scores->flat.data(), rows, outputs, 1e-4, 1000, g.data(), 0, serial);
  };
  run();
  const double share = static_cast<double>(rows) / static_cast<double>(outputs);
  std::vector<double> sum(static_cast<std::size_t>(outputs), 0);
  std::vector<moe::ExpertId> out;
  for (Index t = 0; t < rows; ++t) {
    moe::Sinkhorn::plan_row(scores->flat.data() + t * outputs, g.data(), p.data(), outputs);
    for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += p[e];
    out.push_back(static_cast<moe::ExpertId>(std::max_element(p.begin(), p.end()) - p.begin()));
  }
  for (const double of : sum) {
    if (std::abs(of / share - 1) > 2e-4) return state.SkipWithError("unequal shares");
  }
  for (auto _ : state) {
    run();
    benchmark::ClobberMemory();
  }
  state.counters["sinkhorn_iterations"] = static_cast<double>(iterations);
  report_value(state, *scores, value_of(*scores, out));
}

void hungarian(benchmark::State& state, const std::shared_ptr<const Scores>& scores) {
  for (auto _ : state) benchmark::DoNotOptimize(test::exact_assignment(scores->of).data());
  report_value(state, *scores, scores->best);
}

}  // namespace

void add_assignment(const Suite& suite) {
  for (const Index outputs : {8, 64}) {
    for (const Index rows : {64, 256, 1024, 4096}) {
      if (suite.smoke && rows > 64) continue;
      const auto cell = [&](const char* who, auto f) {
        const std::string name = std::string("assignment/") + who + "/tokens:" + std::to_string(rows) +
                                 "/experts:" + std::to_string(outputs);
        // Drawn and solved exactly when it is run, not when it is listed.
        const auto scores = std::make_shared<std::shared_ptr<const Scores>>();
        bench::add(name, [=](benchmark::State& state) {
          if (*scores == nullptr) *scores = std::make_shared<const Scores>(rows, outputs);
          f(state, *scores);
        });
      };
      cell("auction", auction);
      cell("sinkhorn", sinkhorn);
      if (rows <= kExact) cell("hungarian", hungarian);
    }
  }
}

}  // namespace bench
