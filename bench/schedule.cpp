// The experts' task lists on more workers than this machine has:
//   schedule/<shape>/tokens:<T>/workers:<W>/<uniform|zipf>
// The bank's own forward runs on an executor that claims to have W workers: so the lists are the real ones,
// cut for W. It works the tasks off on one thread, three times, and takes the shortest time of each as its
// cost; then W workers claim them in order, as those of PoolExecutor do, with a barrier behind each list (one
// list per projection). Memory that W workers would share is not part of it. The benchmark's time is the
// simulated one; the counter makespan_over_ideal is that time over cost / W, and tasks the number of tasks.
#include <functional>
#include <queue>

#include "problem.hpp"

namespace bench {
namespace {

/// Measures what tasks cost: of the list i that the call works off, costs()[i][task], the shortest of all
/// calls.
class MeasuringExecutor {
 public:
  explicit MeasuringExecutor(Index workers) : workers_(workers) {}

  Index concurrency() const noexcept { return workers_; }
  void begin_call() { list_ = 0; }
  const std::vector<std::vector<double>>& costs() const { return costs_; }

  template <class F>
  void parallel_for(Index n, F&& f) {
    if (list_ == costs_.size()) costs_.emplace_back(static_cast<std::size_t>(n), 1e9);
    for (Index i = 0; i < n; ++i) {
      const auto start = std::chrono::steady_clock::now();
      f(i, Index{0});
      double& cost = costs_[list_][static_cast<std::size_t>(i)];
      cost = std::min(cost, seconds_since(start));
    }
    ++list_;
  }

 private:
  Index workers_;
  std::size_t list_ = 0;
  std::vector<std::vector<double>> costs_;
};

/// When the last of `workers` is done that each take the next task when they are free.
double makespan(const std::vector<double>& costs, Index workers) {
  std::priority_queue<double, std::vector<double>, std::greater<>> free_at;
  for (Index w = 0; w < workers; ++w) free_at.push(0);
  double end = 0;
  for (const double cost : costs) {
    const double done = free_at.top() + cost;
    free_at.pop();
    free_at.push(done);
    end = std::max(end, done);
  }
  return end;
}

void schedule(benchmark::State& state, const Shape& shape, Index tokens, Index workers, Skew skew) {
  const auto p = problem<float>(shape);
  const auto inputs = batches<float>(2, tokens, shape.D);
  auto& layer = p->layer(0);
  const std::vector<float> mask = skew_mask<float>(skew, shape);
  moe::LayerInput<float> in(moe::ConstMatrixView<float>(inputs->front().data(), tokens, shape.D));
  in.logit_mask = moe::ConstMatrixView<float>(mask.data(), 1, shape.E);
  const Routing<float> routing(layer.router(), in);

  // Ids and weights as the router gave them, so that nothing but the bank runs on the executor.
  MeasuringExecutor executor(workers);
  moe::Workspace plan_memory, workspace;
  const auto planned = [&](moe::Arena arena, auto use) {
    auto plan = moe::DispatchPlan<float>::carve(arena, tokens, shape.E, routing.table().pairs());
    if (arena.measuring()) {
      moe::measure_plan(arena, moe::Dropless{}, routing.table().pairs(), shape.E);
    } else {
      moe::build_plan(routing.table(), moe::Dropless{}, moe::Segments{}, plan, arena);
      use(plan);
    }
    return arena.bytes();
  };
  const Index plan_bytes = planned(moe::Arena(), [](auto&) {});
  for (auto _ : state) {
    planned(plan_memory.arena(plan_bytes), [&](const moe::DispatchPlan<float>& plan) {
      const Index slots = plan.slots();
      std::vector<const float*> rows(static_cast<std::size_t>(slots)), results(rows.size());
      std::vector<float> z(static_cast<std::size_t>(slots * shape.D));
      const moe::RowSink<float> sink{z.data(), shape.D, results.data()};
      for (Index s = 0; s < slots; ++s) {
        rows[static_cast<std::size_t>(s)] = in.x.row(plan.token[s]);
        results[static_cast<std::size_t>(s)] = sink.row(s);
      }
      const moe::RowBatch<float> batch{rows.data(), plan.token, plan.offsets, shape.E};
      moe::Arena measuring;
      layer.experts().measure(measuring, slots, workers);
      for (int call = 0; call < 3; ++call) {
        moe::Arena arena = workspace.arena(measuring.bytes());
        executor.begin_call();
        layer.experts().forward(batch, sink, arena, executor);
      }
    });
    double time = 0, cost = 0, tasks = 0;
    for (const std::vector<double>& list : executor.costs()) {
      time += makespan(list, workers);
      cost += std::accumulate(list.begin(), list.end(), 0.0);
      tasks += static_cast<double>(list.size());
    }
    state.SetIterationTime(time);
    state.counters["makespan_over_ideal"] = time * static_cast<double>(workers) / cost;
    state.counters["tasks"] = tasks;
  }
}

}  // namespace

void add_schedule(const Suite& suite) {
  for (const Shape& shape : suite.shapes) {
    for (const Index tokens : suite.tokens) {
      if (tokens < 512 && !suite.smoke) continue;
      for (const Index workers : {16, 64, 128}) {
        for (const Skew skew : {Skew::uniform, Skew::zipf}) {
          const std::string name = "schedule/" + shape.name + "/tokens:" + std::to_string(tokens) +
                                   "/workers:" + std::to_string(workers) + "/" + name_of(skew);
          add(
              name, [=](benchmark::State& state) { schedule(state, shape, tokens, workers, skew); },
              Timing::manual)
              ->Iterations(1);
        }
      }
    }
  }
}

}  // namespace bench
