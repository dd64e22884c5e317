// What of a layer is not its experts:
//   stages/float/<shape>/tokens:<T>/threads:<N>
// Whole layers take turns with the same layer on a bank that multiplies nothing, on the same workspace:
// checks, route, plan, row pointers and combine remain. The counter overhead_share is the time of the second
// over that of the first, which is the benchmark's own.
#include "problem.hpp"

namespace bench {
namespace {

/// Takes the same memory as the bank it stands for and leaves in the results what that bank wrote last.
template <class Bank>
class IdleBank {
 public:
  using Real = typename Bank::Real;
  static constexpr moe::Coupling coupling = Bank::coupling;

  explicit IdleBank(const Bank& bank) : bank_(&bank) {}
  Index experts() const { return bank_->experts(); }
  Index width() const { return bank_->width(); }
  void measure(moe::Arena& arena, Index pairs, Index concurrency) const {
    bank_->measure(arena, pairs, concurrency);
  }
  template <class Executor>
  void forward(const moe::RowBatch<Real>&, const moe::RowSink<Real>&, moe::Arena&, Executor&) const {}

 private:
  const Bank* bank_;
};

void stages(benchmark::State& state, const Shape& shape, Index tokens, Index threads) {
  using P = Problem<float>;
  const auto p = problem<float>(shape);
  const auto inputs = batches<float>(rotation(*p, tokens), tokens, shape.D);
  moe::PoolExecutor pool(threads);
  moe::Workspace workspace;
  std::vector<float> y(inputs->front().size());
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), tokens, shape.D));
  std::size_t call = 0;
  const auto timed = [&](const auto& layer) {
    const moe::ConstMatrixView<float> x((*inputs)[call % inputs->size()].data(), tokens, shape.D);
    const auto start = std::chrono::steady_clock::now();
    layer.forward(x, out, workspace, pool);
    benchmark::ClobberMemory();
    return seconds_since(start);
  };
  const auto idle = [&](P::Layer& layer) {
    using Bank = IdleBank<P::Bank>;
    return moe::MoeLayer<moe::SoftmaxTopK<float>&, Bank>(layer.router(), Bank(layer.experts()));
  };
  timed(p->layer(0));  // the workspace grows
  double whole = 0, rest = 0;
  for (auto _ : state) {
    P::Layer& layer = p->layer(call);
    const auto without = idle(layer);
    const double seconds = timed(layer);
    whole += seconds;
    rest += timed(without);
    state.SetIterationTime(seconds);
    ++call;
  }
  state.counters["overhead_share"] = rest / whole;
}

}  // namespace

void add_stages(const Suite& suite) {
  for (const Shape& shape : suite.shapes) {
    for (const Index tokens : suite.tokens) {
      if (tokens < 64) continue;
      for (const Index threads : {1, 2}) {
        add(
            "stages/float/" + cell_name(shape, tokens, threads),
            [=](benchmark::State& state) { stages(state, shape, tokens, threads); }, Timing::manual);
      }
    }
  }
}

}  // namespace bench
