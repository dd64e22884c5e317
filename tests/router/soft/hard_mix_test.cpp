#include "moe/router/soft/hard_mix.hpp"

#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/soft/soft_layer.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/switch.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"
#include "support/mixing.hpp"

namespace {

using moe::Index;
using Bank = moe::Glu<moe::Silu, double>;

Bank make_bank(Index experts) {
  Bank bank({.experts = experts, .width = 5, .hidden = 3, .bias = true});
  bank.initialise(3);
  return bank;
}

/// The layer that chooses and the one that mixes by what it chose agree in every number.
template <class R, class C = moe::Dropless>
void check_equal(const R& router, C capacity = {}) {
  const Index experts = router.experts();
  const moe::MoeLayer<R, Bank, C> sparse(router, make_bank(experts), capacity);
  const moe::SoftLayer dense(moe::HardMix<R, C>(router, capacity), make_bank(experts));
  for (const Index idle : {-1, 2}) {
    const auto a = test::run_layer(sparse, 9, {0, 4, 9}, 1, idle);
    const auto b = test::run_layer(dense, 9, {0, 4, 9}, 1, idle);
    test::check_close(a.y, b.y);
    test::check_close(a.dx, b.dx);
    test::check_close(a.gradients, b.gradients);
    CHECK(a.losses == b.losses);
  }
}

}  // namespace

TEST_CASE("routers that choose mix by what they chose", "[router]") {
  auto top = moe::softmax_top_k<double>({.width = 5, .experts = 4, .k = 2});
  top.scorer().initialise(1, 2);
  check_equal(top);
  auto one = moe::switch_router<double>({.width = 5, .experts = 4});
  one.scorer().initialise(2, 3);
  check_equal(one, moe::FixedCapacity({.tokens_per_expert = 2}));
  auto choice = moe::expert_choice<double>({.width = 5, .experts = 3, .capacity_factor = 1.5});
  choice.scorer().initialise(3, 2);
  check_equal(choice);
  top.set_weight_place(moe::WeightPlace::input);
  check_equal(top);
}

TEST_CASE("HardMix keeps the laws of layers", "[router]") {
  test::check_layer("HardMix", [] {
    return moe::SoftLayer(
        moe::HardMix(moe::softmax_top_k<double>({.width = 5, .experts = 4, .k = 2, .load_balance = 0.01})),
        Bank({.experts = 4, .width = 5, .hidden = 3}));
  });
}
