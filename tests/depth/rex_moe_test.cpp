#include "moe/depth/rex_moe.hpp"

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "moe/depth/chain.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using test::Values;
using Bank = moe::Mlp<moe::Silu, double>;

constexpr Index kTokens = 8, kWidth = 4, kEach = 3, kGroup = 2;

moe::RexMoeOptions options(Index group) {
  return {.group = group, .router = {.width = kWidth, .experts = kEach, .k = 2, .load_balance = 0.1}};
}
Bank pool(Index group) {
  return Bank({.experts = group * kEach, .width = kWidth, .hidden = 3});
}

}  // namespace

TEST_CASE("ReXMoE: a group of one layer has the bits of a layer with a bank of its own", "[depth][smoke]") {
  Bank shared = pool(1);
  auto rex = moe::rex_moe(options(1), shared);
  test::draw_parameters(rex, 3);
  moe::ProgressivePool<double> progress({.group = 1, .experts = kEach, .steps = 10});
  moe::MoeLayer<moe::SoftmaxTopK<double>, Bank> plain(moe::softmax_top_k<double>(options(1).router), pool(1));
  test::draw_parameters(plain, 3);
  const Values x = test::normal_rows(4, kTokens, kWidth), dy = test::normal_rows(5, kTokens, kWidth);
  moe::LayerInput<double> in(test::rows_of(x, kWidth));
  in.logit_mask = progress.mask(0, 0);
  test::Trained a(rex[0], in, dy);
  test::Trained b(plain, test::rows_of(x, kWidth), dy);
  CHECK(test::same_bits(a.y, b.y));
  CHECK(test::same_bits(a.dx, b.dx));
  CHECK(a.losses == b.losses);
  CHECK(test::flat_gradients(rex[0], a.gradients) == test::flat_gradients(plain, b.gradients));
}

TEST_CASE("ReXMoE: the softmax and the balance loss are over the candidates, in plain loops", "[depth]") {
  Bank shared = pool(kGroup);
  auto rex = moe::rex_moe(options(kGroup), shared);
  test::draw_parameters(rex, 3);
  const Values x = test::normal_rows(4, kTokens, kWidth), dy = test::normal_rows(5, kTokens, kWidth);
  const Index steps = 4;
  moe::ProgressivePool<double> progress({.group = kGroup, .experts = kEach, .steps = steps});
  for (Index layer = 0; layer < kGroup; ++layer) {
    const test::PlainMixture plain(rex, "layer" + std::to_string(layer) + ".", "layer0.", 2);
    for (Index step = 0; step <= steps; ++step) {
      CAPTURE(layer, step);
      moe::LayerInput<double> in(test::rows_of(x, kWidth));
      in.logit_mask = progress.mask(layer, step);
      test::Trained trained(rex[layer], in, dy);
      const Index seen = progress.candidates(step);
      std::vector<long double> count(kGroup * kEach), mean(kGroup * kEach);
      for (Index t = 0; t < kTokens; ++t) {
        const auto row = test::plain_row(x, t, kWidth);
        // The own experts first, then the next layer's, cyclically.
        std::vector<Index> candidates;
        for (Index i = 0; i < seen; ++i) candidates.push_back((layer * kEach + i) % (kGroup * kEach));
        const auto logits = plain.logits(row);
        test::PlainMixture::Row p;
        for (const Index e : candidates) p.push_back(logits[static_cast<std::size_t>(e)]);
        p = test::PlainMixture::softmax(p);
        test::PlainMixture::Row y(kWidth);
        for (int choice = 0; choice < 2; ++choice) {
          std::size_t best = 0;
          long double most = -1;
          for (std::size_t i = 0; i < p.size(); ++i) {
            if (p[i] < 2 && p[i] > most) most = p[best = i];
          }
          const Index e = candidates[best];
          const auto z = plain.expert(e, row);
          for (std::size_t j = 0; j < y.size(); ++j) y[j] += most * z[j];
          mean[static_cast<std::size_t>(e)] += most / kTokens;
          count[static_cast<std::size_t>(e)] += 1;
          p[best] = 2;  // taken
        }
        for (std::size_t i = 0; i < p.size(); ++i) {
          if (p[i] < 2) mean[static_cast<std::size_t>(candidates[i])] += p[i] / kTokens;
        }
        const Values actual(trained.y.begin() + t * kWidth, trained.y.begin() + (t + 1) * kWidth);
        CHECK(test::close_rows(actual, y, 1e-14));
      }
      long double loss = 0;
      for (std::size_t e = 0; e < count.size(); ++e) loss += count[e] / (2 * kTokens) * mean[e];
      CHECK(std::fabs(trained.losses - 0.1L * static_cast<long double>(seen) * loss) <=
            1e-15L * static_cast<long double>(seen));
    }
  }
}

TEST_CASE("ReXMoE: the pool opens linearly, and all of it in the end", "[depth]") {
  moe::ProgressivePool<double> progress({.group = 3, .experts = 4, .steps = 16});
  CHECK(progress.candidates(0) == 4);
  CHECK(progress.candidates(8) == 8);
  CHECK(progress.candidates(16) == 12);
  CHECK(progress.candidates(1000) == 12);
  const auto open = [&](Index layer, Index step) {
    std::vector<Index> ids;
    const auto mask = progress.mask(layer, step);
    for (Index e = 0; e < mask.cols; ++e) {
      if (mask(0, e) == 0) ids.push_back(e);
    }
    return ids;
  };
  CHECK(open(1, 0) == std::vector<Index>{4, 5, 6, 7});
  CHECK(open(1, 2) == std::vector<Index>{4, 5, 6, 7, 8});
  CHECK(open(2, 8) == std::vector<Index>{0, 1, 2, 3, 8, 9, 10, 11});
  CHECK(open(0, 16).size() == 12);
  CHECK_THROWS_AS(progress.mask(3, 0), moe::config_error);
  CHECK_THROWS_AS(progress.mask(0, -1), moe::config_error);
  CHECK_THROWS_AS(moe::ProgressivePool<double>({.group = 0, .experts = 4}), moe::config_error);
  CHECK_THROWS_AS(moe::ProgressivePool<double>({.group = 2, .experts = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::ProgressivePool<double>({.group = 2, .experts = 2, .steps = 0}), moe::config_error);
  Bank shared = pool(2);
  CHECK_THROWS_AS(moe::rex_moe(options(0), shared), moe::config_error);
  CHECK_THROWS_AS(moe::rex_moe(options(3), shared), moe::config_error);
}

TEST_CASE("a group over one pool, as a chain with a mask, keeps the laws of layers", "[depth]") {
  static Bank shared = pool(kGroup);
  static moe::ProgressivePool<double> progress({.group = kGroup, .experts = kEach, .steps = 2});
  test::LayerCall call;
  call.columns = [](moe::LayerInput<double>& in, const std::vector<Index>&) {
    in.logit_mask = progress.mask(1, 1);
  };
  test::check_layer(
      "rex moe",
      [] { return moe::Chain(moe::rex_moe(options(kGroup), shared).layers(), moe::Residual::inner); }, call);
}
