#include "moe/router/weighting/leading.hpp"

#include <cmath>
#include <vector>

#include "moe/router/weighting/concept.hpp"
#include "support/catch.hpp"
#include "support/one_row.hpp"

using moe::ExpertId;
using moe::Index;
using moe::LeadingWeighting;

namespace {

struct Weights {
  std::vector<double> weight;
  std::vector<bool> keep;
};

moe::RowContext<double> row_of(const std::vector<double>& score) {
  return test::one_row<double>(nullptr, score.data(), static_cast<Index>(score.size()));
}

Weights weigh(const LeadingWeighting& w, const std::vector<ExpertId>& ids, const std::vector<double>& score) {
  std::vector<double> weight(ids.size(), 99);
  bool keep[8] = {};
  w.forward(row_of(score), moe::Chosen{ids.data(), static_cast<Index>(ids.size())}, weight.data(), keep);
  return {weight, std::vector<bool>(keep, keep + ids.size())};
}

}  // namespace

TEST_CASE("the leading outputs share the weight", "[router]") {
  STATIC_REQUIRE(moe::Weighting<LeadingWeighting>);
  const std::vector<double> score{0.25, 0.125, 0.375, 0.25};
  const LeadingWeighting elided({.leading = 2, .elide_rest = true}),
      kept({.leading = 2, .elide_rest = false});
  CHECK(elided.experts(4) == 2);
  CHECK(kept.experts(4) == 4);
  for (const LeadingWeighting& w : {elided, kept}) {
    const auto mixed = weigh(w, {2, 0, 1}, score);
    CHECK(mixed.weight == std::vector<double>{0, 0.25 / 0.375, 0.125 / 0.375});
    CHECK(mixed.keep == std::vector<bool>{w.experts(4) == 4, true, true});
    const auto none = weigh(w, {2, 3}, score);
    CHECK(none.weight == std::vector<double>{0, 0});
    CHECK(weigh(w, {2, 1}, {0, 0, 1}).weight == std::vector<double>{0, 0});  // an underflowed probability
  }
  CHECK(weigh(elided, {2, 3}, score).keep == std::vector<bool>{false, false});
  CHECK_THROWS_AS(LeadingWeighting({.leading = 0}), moe::config_error);
}

TEST_CASE("the leading outputs share the gradient", "[router]") {
  const std::vector<double> score{0.2, 0.3, 0.1, 0.4}, c{5, 0.7, -1.1};
  const std::vector<ExpertId> ids{3, 1, 0};
  const LeadingWeighting w({.leading = 3, .elide_rest = true});
  std::vector<double> dscore(4, 1);  // added to what is there
  w.backward(row_of(score), moe::Chosen{ids.data(), 3}, c.data(), dscore.data());
  for (std::size_t e = 0; e < 4; ++e) {
    const auto at = [&](double shift) {
      std::vector<double> moved = score;
      moved[e] += shift;
      const auto weight = weigh(w, ids, moved).weight;
      return c[0] * weight[0] + c[1] * weight[1] + c[2] * weight[2];
    };
    const double h = 1e-3;  // error of the difference: h^4 times a fifth derivative below 1e4 over 30
    const double difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    INFO("score " << e);
    CHECK(std::abs(dscore[e] - 1 - difference) <= 4e-10);
  }
  std::vector<double> untouched(4, 1);
  const std::vector<ExpertId> rest{3};
  w.backward(row_of(score), moe::Chosen{rest.data(), 1}, c.data(), untouched.data());
  CHECK(untouched == std::vector<double>(4, 1));
}
