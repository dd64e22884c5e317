// A const layer shows what a layer that may be written shows, as something to read, and is saved alike.
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/archive/reader.hpp"
#include "moe/archive/writer.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/normed.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/frame/any.hpp"
#include "moe/layer/frame/chain.hpp"
#include "moe/layer/frame/latent.hpp"
#include "moe/layer/frame/output_bias.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/any.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/kind/hash.hpp"
#include "moe/router/named/deepseek.hpp"
#include "moe/router/named/relu.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using Glu = moe::Glu<moe::Silu, float>;
using Entry = std::pair<std::string, std::vector<double>>;
using Entries = std::vector<Entry>;

constexpr Index kWidth = 6, kExperts = 4;

/// State of a user's, whose visit is for writers only.
struct Counter {
  double steps = 3;
  void on_step_end(const moe::RouteStats&) { steps += 1; }
  template <class Visitor>
  void visit_state(Visitor& f) {
    f("counter", &steps, Index{1});
  }
};

template <class T>
Entry entry(const char* name, const T* values, Index n) {
  Entry e{name, {}};
  for (Index i = 0; i < n; ++i) e.second.push_back(static_cast<double>(values[i]));
  return e;
}
template <class P>
Entry entry(const P& parameter) {
  Entry e{parameter.name, {}};
  for (Index o = 0; o < parameter.value.rows; ++o) {
    for (Index i = 0; i < parameter.value.cols; ++i) {
      e.second.push_back(static_cast<double>(parameter.value(o, i)));
    }
  }
  return e;
}

template <class Pointer>
inline constexpr bool kReads = std::is_const_v<std::remove_pointer_t<Pointer>>;

/// All that the visits of a layer show; of a const one nothing can be written.
template <class L>
Entries shown(L& layer, typename std::remove_const_t<L>::Gradients& gradients) {
  constexpr bool kConst = std::is_const_v<L>;
  Entries all;
  layer.visit_parameters([&](const auto& p) {
    static_assert(kReads<decltype(p.value.data)> == kConst);
    all.push_back(entry(p));
  });
  layer.visit_storage(gradients, [&](const char* name, auto* values, auto* g, Index n) {
    static_assert(kReads<decltype(values)> == kConst && !kReads<decltype(g)>);
    all.push_back(entry(name, values, n));
  });
  layer.visit_packed([&](const char* name, auto* bytes, Index n) {
    static_assert(kReads<decltype(bytes)> == kConst);
    all.push_back(entry(name, reinterpret_cast<const unsigned char*>(bytes), n));
  });
  layer.visit_state([&](const char* name, auto* values, Index n) {
    static_assert(kReads<decltype(values)> == kConst);
    all.push_back(entry(name, values, n));
  });
  return all;
}

template <class L>
std::vector<std::byte> saved(L& layer) {
  moe::ArchiveWriter writer;
  writer.add_layer("layer", layer);
  moe::Archive::from_bytes(writer.bytes()).check_layer("layer", layer);
  return {writer.bytes().begin(), writer.bytes().end()};
}

template <class L>
void check_const(L layer, Index entries) {
  auto gradients = layer.make_gradients();
  const Entries all = shown(layer, gradients);
  CHECK(static_cast<Index>(all.size()) == entries);
  CHECK(shown(std::as_const(layer), gradients) == all);
  CHECK(saved(std::as_const(layer)) == saved(layer));

  // Part by part.
  const L& reads = layer;
  Entries parts, written;
  const auto show = [&](const auto& p) { parts.push_back(entry(p)); };
  moe::visit_parameters(reads.router(), show);
  moe::visit_parameters(reads.experts(), show);
  moe::visit_parameters(reads.shared(), show);
  moe::visit_parameters(reads.frame(), show);
  layer.visit_parameters([&](const auto& p) { written.push_back(entry(p)); });
  CHECK(parts == written);
  std::as_const(layer).zero_gradients(gradients);
}

auto top_k() {
  auto router = moe::softmax_top_k<float>({.width = kWidth, .experts = kExperts, .k = 2});
  router.scorer().initialise(1);
  return router;
}
template <class Bank = Glu>
Bank bank(Index experts = kExperts, Index width = kWidth) {
  Bank b({.experts = experts, .width = width, .hidden = 5, .bias = true});
  b.initialise(2);
  return b;
}

}  // namespace

TEST_CASE("const layers of every kind of bank show and save what others do", "[layer]") {
  // Entries: the gate and its range; of each expert 6 matrices and biases, and their 4 ranges.
  check_const(moe::MoeLayer(top_k(), bank()), 2 + 6 * kExperts + 4);
  check_const(moe::MoeLayer(top_k(), bank<moe::Mlp<moe::Relu, float>>()), 2 + 4 * kExperts + 4);
  // Rounded: biases, their ranges, and two arrays of blocks.
  check_const(moe::MoeLayer(top_k(), bank<moe::Glu<moe::Silu, moe::Int8Groups<>>>()),
              2 + 3 * kExperts + 2 + 2);
  check_const(
      moe::MoeLayer(top_k(), moe::Composite(bank<moe::Glu<moe::Silu, moe::BFloat16>>(3),
                                            moe::ZeroComputation<float>({.width = kWidth, .constant = 1}))),
      2 + 3 * 3 + 2 + 2 + 2 + 2);
}

TEST_CASE("const layers of routers with state show and save what others do", "[layer]") {
  check_const(
      moe::MoeLayer(moe::deepseek_v3<float>(
                        {.width = kWidth, .experts = kExperts, .k = 2, .groups = 2, .kept_groups = 1}),
                    bank()),
      2 + 6 * kExperts + 4 + 1);
  check_const(moe::MoeLayer(moe::relu_router<float>({.width = kWidth, .experts = kExperts}), bank()),
              2 + 6 * kExperts + 4 + 1);
  check_const(moe::MoeLayer(moe::HashRouter<float>(moe::HashTable::random(100, kExperts, 1)), bank()),
              6 * kExperts + 4);
  using Balance = moe::Balancing<moe::SelectionBias, Counter>;
  const moe::TokenChoice router(
      moe::LinearScorer<float>({.width = kWidth, .outputs = kExperts}), moe::Softmax{}, moe::TopKSelection(2),
      moe::GatherWeighting{},
      Balance(moe::SelectionBias({.outputs = kExperts, .decaying = true}), Counter{}));
  check_const(moe::MoeLayer(router, bank()), 2 + 6 * kExperts + 4 + 2 + 1);
}

TEST_CASE("const layers with shared experts and frames show and save what others do", "[layer]") {
  using Shared = moe::SharedExperts<Glu>;
  using Latent = moe::LatentFrame<float>;
  using Bias = moe::OutputBias<float>;
  check_const(moe::MoeLayer(top_k(), bank(), moe::Dropless{}, Shared(bank(1), true)),
              2 + 6 * kExperts + 4 + 6 + 4 + 2);
  check_const(moe::MoeLayer(top_k(), bank(), moe::Dropless{}, moe::AnyShared<Glu>(Shared(bank(1))),
                            moe::AnyFrame<float>(Bias(kWidth))),
              2 + 6 * kExperts + 4 + 6 + 4 + 2);
  // Statistics of shared experts are state: "shared_experts.norm.mean" and ".variance".
  using Normed = moe::NormedExperts<Glu>;
  using NormedShared = moe::SharedExperts<Normed>;
  check_const(moe::MoeLayer(top_k(), bank(), moe::Dropless{}, NormedShared(Normed(bank(1)))),
              2 + 6 * kExperts + 4 + 8 + 6 + 2);
  const moe::MoeLayer layer(top_k(), bank(), moe::Dropless{},
                            moe::AnyShared<Normed>(NormedShared(Normed(bank(1)))));
  std::vector<std::string> state;
  layer.visit_state([&](const char* name, const double*, Index) { state.emplace_back(name); });
  CHECK(state == std::vector<std::string>{"shared_experts.norm.mean", "shared_experts.norm.variance"});
  check_const(moe::MoeLayer(top_k(), bank(kExperts, 3), moe::Dropless{}, moe::NoShared{},
                            moe::FrameChain(Bias(kWidth), Latent(kWidth, 3))),
              2 + 6 * kExperts + 4 + 2 + 4);
}
