#include "moe/expert/bank/carve.hpp"

#include <Eigen/Core>
#include <utility>

#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/frame/output_bias.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/named/union_of_experts.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr Index kWidth = 10, kHidden = 36, kSlices = 4, kTokens = 12;

template <class Bank>
Bank dense_bank(bool bias) {
  Bank bank({.experts = 1, .width = kWidth, .hidden = kHidden, .bias = bias});
  bank.initialise(3);
  double next = 0.1;
  bank.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    for (Index o = 0; p.value.cols == 1 && o < p.value.rows; ++o) p.value(o, 0) = next = -0.97 * next;
  });
  return bank;
}

template <class Layer>
Rows output(const Layer& layer, const Rows& x) {
  Rows y(x.rows(), x.cols());
  moe::Workspace workspace;
  moe::LayerInput<double> in(x);
  in.segments = moe::Segments::uniform(kTokens / 2);
  moe::LayerOutput<double> out(y);
  layer.forward(in, out, workspace);
  return y;
}

/// The union of k slices as a layer; all others weigh nothing.
template <class Bank>
Rows union_output(const Bank& dense, Index k, const Rows& x) {
  Bank slices({.experts = kSlices, .width = kWidth, .hidden = kHidden / kSlices, .bias = dense.has_bias()});
  moe::Buffer<double> bias = moe::carve_experts(dense, slices);
  auto router = moe::union_of_experts<double>({.width = kWidth, .experts = kSlices, .k = k});
  router.scorer().initialise(4);
  CHECK(bias.size() == (dense.has_bias() ? kWidth : 0));
  if (bias.empty()) bias.assign(kWidth, 0);
  return output(moe::MoeLayer(std::move(router), std::move(slices), moe::Dropless{}, moe::NoShared{},
                              moe::OutputBias<double>(std::move(bias))),
                x);
}

template <class Bank>
void check_carved() {
  for (const bool bias : {false, true}) {
    const Bank dense = dense_bank<Bank>(bias);
    const Rows x = Rows::Random(kTokens, kWidth);
    auto all = moe::union_of_experts<double>({.width = kWidth, .experts = 1, .k = 1});
    const Rows want = output(moe::MoeLayer(std::move(all), dense), x);
    CHECK(want.cwiseAbs().maxCoeff() > 0.01);
    CHECK((union_output(dense, kSlices, x) - want).cwiseAbs().maxCoeff() < 1e-15);
    CHECK((union_output(dense, 2, x) - want).cwiseAbs().maxCoeff() > 1e-3);
  }
}

}  // namespace

TEST_CASE("all slices of a dense layer, weighed 1, are the dense layer: its second bias is there once",
          "[carve]") {
  check_carved<moe::Mlp<moe::Relu, double>>();
  check_carved<moe::Glu<moe::Silu, double>>();
}

TEST_CASE("what cannot be carved is refused", "[carve]") {
  using Bank = moe::Mlp<moe::Relu, float>;
  const Bank dense({.experts = 1, .width = 6, .hidden = 12});
  const auto refused = [&](const Bank& from, Bank slices) {
    CHECK_THROWS_AS(moe::carve_experts(from, slices), moe::config_error);
  };
  refused(dense, Bank({.experts = 3, .width = 6, .hidden = 5}));
  refused(dense, Bank({.experts = 3, .width = 5, .hidden = 4}));
  refused(dense, Bank({.experts = 3, .width = 6, .hidden = 4, .bias = true}));
  refused(Bank({.experts = 2, .width = 6, .hidden = 12}), Bank({.experts = 3, .width = 6, .hidden = 4}));
}
