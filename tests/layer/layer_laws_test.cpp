// The laws of layers that every kind of layer is held to, of MoeLayer itself.
#include "support/layer_laws.hpp"

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/switch.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using Bank = moe::Glu<moe::Silu, double>;

}  // namespace

TEST_CASE("a layer that chooses row by row keeps the laws of layers", "[layer]") {
  using Router = moe::SoftmaxTopK<double>;
  const auto make = [](Index experts) {
    return [experts] {
      return moe::MoeLayer<Router, Bank, moe::Dropless, moe::SharedExperts<Bank>>(
          moe::softmax_top_k<double>({.width = 5, .experts = experts, .k = 2}),
          Bank({.experts = experts, .width = 5, .hidden = 3, .bias = true}), {},
          moe::SharedExperts<Bank>(Bank({.experts = 1, .width = 5, .hidden = 4})));
    };
  };
  test::check_layer("SoftmaxTopK", make(4), make(5));
}

TEST_CASE("a layer that couples segments, and one with losses and draws, keep them", "[layer]") {
  test::check_layer("ExpertChoice", [] {
    return moe::MoeLayer(moe::expert_choice<double>({.width = 4, .experts = 3, .capacity_factor = 1.5}),
                         Bank({.experts = 3, .width = 4, .hidden = 3}));
  });
  test::check_layer("Switch", [] {
    return moe::MoeLayer(moe::switch_router<double>({.width = 4, .experts = 3}),
                         Bank({.experts = 3, .width = 4, .hidden = 3}));
  });
}
