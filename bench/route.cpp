// Stages 1 and 2 alone, for every router of the library:
//   route/<router>/<shape>/tokens:<T>/threads:1
#include <memory>

#include "moe/core/part_traits.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/kind/hash.hpp"
#include "moe/router/named/deepseek.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/gshard.hpp"
#include "moe/router/named/noisy_top_k.hpp"
#include "moe/router/named/null_experts.hpp"
#include "moe/router/named/relu.hpp"
#include "moe/router/named/switch.hpp"
#include "problem.hpp"

namespace bench {
namespace {

/// Route and plan T random rows; nanoseconds per token are what counts. Verified: as many pairs as the plan
/// has.
template <class Router>
void route(benchmark::State& state, const std::shared_ptr<Router>& router, Index tokens, Index width) {
  const auto rows = batches<float>(1, tokens, width);
  std::vector<moe::TokenId> ids;
  for (Index t = 0; t < tokens; ++t) ids.push_back(static_cast<moe::TokenId>(t * 37 % 1000));
  moe::RouterInput<float> in;
  in.x = moe::ConstMatrixView<float>(rows->front().data(), tokens, width);
  in.token_id = ids;
  in.segments = moe::Segments::uniform(tokens);
  moe::SerialExecutor serial;
  const moe::CallShape shape{tokens, 1, {}};
  const Index pairs = router->max_pairs(shape);
  const auto call = [&](moe::Arena arena, auto&& use) {
    auto table = moe::RouteTable<float>::carve(arena, tokens, router->experts(), pairs);
    auto plan = moe::DispatchPlan<float>::carve(arena, tokens, router->experts(), pairs);
    const Index mark = arena.mark();
    if (arena.measuring()) {
      moe::impl::measure_of(*router, arena, shape, Index{1});
      arena.rewind(mark);
      moe::measure_plan(arena, moe::Dropless{}, pairs, router->experts());
    } else {
      router->route(in, table, arena, serial);
      arena.rewind(mark);
      moe::build_plan(table, moe::Dropless{}, in.segments, plan, arena);
      use(table, plan);
    }
    return arena.bytes();
  };
  moe::Workspace workspace;
  const Index bytes = call(moe::Arena(), [](auto&, auto&) {});
  bool wrong = false;
  call(workspace.arena(bytes), [&](auto& table, auto& plan) { wrong = table.pairs() != plan.slots(); });
  if (wrong) return state.SkipWithError("the plan lost pairs");
  for (auto _ : state) {
    call(workspace.arena(bytes), [](auto&, auto& plan) { benchmark::DoNotOptimize(plan.offsets); });
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * tokens);
}

void add_shape(const Shape& shape, Index tokens) {
  const auto add = [&](const char* name, auto router) {
    using Router = decltype(router);
    auto shared = std::make_shared<Router>(std::move(router));
    if constexpr (requires { shared->scorer().initialise(3); }) shared->scorer().initialise(3);
    const Index width = shape.D;
    bench::add(std::string("route/") + name + "/" + cell_name(shape, tokens, 1),
               [=](benchmark::State& state) { route<Router>(state, shared, tokens, width); });
  };
  const Index D = shape.D, E = shape.E, K = shape.K;
  add("softmax_top_k", moe::softmax_top_k<float>({.width = D, .experts = E, .k = K}));
  add("top_k_softmax", moe::top_k_softmax<float>({.width = D, .experts = E, .k = K}));
  add("sigmoid_top_k", moe::sigmoid_top_k<float>({.width = D, .experts = E, .k = K}));
  add("noisy_top_k", moe::noisy_top_k<float>({.width = D, .experts = E, .k = K}));
  add("switch", moe::switch_router<float>({.width = D, .experts = E}));
  if (E >= 2) add("gshard", moe::gshard_router<float>({.width = D, .experts = E}));
  if (E % 4 == 0 && K <= E / 2) {
    add("deepseek_v3",
        moe::deepseek_v3<float>({.width = D, .experts = E, .k = K, .groups = 4, .kept_groups = 2}));
  }
  add("null_experts", moe::null_expert_router<float>({.width = D, .experts = E, .nulls = E, .k = K}));
  add("relu", moe::relu_router<float>({.width = D, .experts = E, .k = K}));
  add("expert_choice",
      moe::expert_choice<float>({.width = D, .experts = E, .capacity_factor = static_cast<double>(K)}));
  add("hash", moe::HashRouter<float>(moe::HashTable::random(1000, E, 1)));
}

}  // namespace

void add_routes(const Suite& suite) {
  for (const Shape& shape : suite.shapes) {
    for (const Index tokens : {1, 64, 512}) add_shape(shape, tokens);
  }
}

}  // namespace bench
