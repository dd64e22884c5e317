#include "moe/router/named/cosine_top_k.hpp"

#include <cmath>

#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::CosineForm;
using moe::ExpertId;
using moe::Index;

constexpr CosineForm kForms[] = {CosineForm::paper, CosineForm::tutel, CosineForm::torchscale,
                                 CosineForm::fixed_norms, CosineForm::geometric};

moe::CosineTopKOptions options(CosineForm form) {
  return {.width = 4, .experts = 6, .k = 2, .form = form, .load_balance = 0.4, .z_loss = 0.1};
}

// Temperatures drawn in (-1, 1); rows of zeros have the projection's bias in Tutel's form.
const test::RouterCases kCases{
    {"CosineTopK", [] { return moe::cosine_top_k<double>(options(CosineForm::paper)); }},
    {"CosineTopK, torchscale", [] { return moe::cosine_top_k<double>(options(CosineForm::torchscale)); }},
    {"CosineTopK, fixed norms", [] { return moe::cosine_top_k<double>(options(CosineForm::fixed_norms)); }},
    {"CosineSigmoidTopK", [] { return moe::cosine_sigmoid_top_k<double>(options(CosineForm::paper)); }},
    {"CosineTopK, float",
     [] { return moe::cosine_top_k<float>({.width = 5, .experts = 4, .form = CosineForm::geometric}); }},
};

template <class R>
void scale(R& router, const char* name, double by) {
  test::Matrix values = test::parameter(router, name);
  for (auto& row : values) {
    for (double& v : row) v *= by;
  }
  test::set_parameter(router, name, values);
}

}  // namespace

TEST_CASE("the length of rows and of experts changes a cosine router's route only where its form says so",
          "[cosine_top_k]") {
  for (const CosineForm form : kForms) {
    INFO("form " << static_cast<int>(form));
    auto router = moe::cosine_top_k<double>(options(form));
    router.scorer().initialise(3);
    auto call = test::random_call<double>(20, 4, 1), longer = call;
    for (double& x : longer.x) x *= 8;  // exactly: Tutel's bias is 0 here
    const auto routed = test::route(router, call), of_longer = test::route(router, longer);
    scale(router, "sim_matrix", 8);
    const auto scaled = test::route(router, call);
    const bool rows = form != CosineForm::torchscale, experts = form != CosineForm::fixed_norms;
    CHECK(routed.expert == of_longer.expert);
    CHECK(routed.expert == scaled.expert);
    double by_rows = 0, by_experts = 0;
    for (std::size_t p = 0; p < routed.weight.size(); ++p) {
      by_rows = std::max(by_rows, std::abs(routed.weight[p] - of_longer.weight[p]));
      by_experts = std::max(by_experts, std::abs(routed.weight[p] - scaled.weight[p]));
    }
    CHECK((by_rows <= 1e-12) == rows);
    CHECK((by_experts <= 1e-12) == experts);
  }
}

TEST_CASE("tau changes weights and nobody's choice", "[cosine_top_k]") {
  auto router = moe::cosine_top_k<double>(options(CosineForm::paper));
  router.scorer().initialise(4);
  const auto call = test::random_call<double>(30, 4, 2);
  const auto before = test::route(router, call);
  test::set_parameter(router, "temperature", {{0.1}});
  const auto after = test::route(router, call);
  CHECK(before.expert == after.expert);
  CHECK(before.weight != after.weight);
}

TEST_CASE("geometric routing goes to the nearest centroid, and twice without an update to the same",
          "[cosine_top_k]") {
  // A centroid each for two clusters on the axes; the map into the space keeps them apart.
  auto router = moe::cosine_top_k<double>({.width = 2, .experts = 2, .form = CosineForm::geometric});
  router.scorer().initialise(1);
  test::Matrix map(64, test::Vector(2, 0)), centroids(64, test::Vector(2, 0));
  map[0][0] = map[1][1] = centroids[0][0] = centroids[1][1] = 1;
  test::set_parameter(router, "cosine_projector.weight", map);
  test::set_parameter(router, "sim_matrix", centroids);
  auto call = test::call_of({{3, 0.2}, {0.1, 0.5}, {0.9, -0.3}, {-0.2, 7}});
  const auto first = test::route(router, call);
  CHECK(first.expert == std::vector<ExpertId>{0, 1, 0, 1});
  CHECK(test::same_route(first, test::route(router, call)));
}

TEST_CASE("forms of cosine routers are those of their papers and codes", "[cosine_top_k]") {
  const auto paper = moe::cosine_scorer_options(CosineForm::paper, 12, 32);
  CHECK((paper.width == 12 && paper.outputs == 32 && paper.projected == 16 && paper.tau == 0.07 &&
         !paper.bias));
  const auto tutel = moe::cosine_scorer_options(CosineForm::tutel, 12, 32);
  CHECK((tutel.projected == 256 && tutel.bias && tutel.tau == 0.5 && tutel.largest == 100 &&
         tutel.trained_tau));
  CHECK(moe::cosine_scorer_options(CosineForm::paper, 12, 1).projected == 1);
  CHECK(moe::cosine_scorer_options(CosineForm::geometric, 12, 1).projected == 64);
  CHECK_THROWS_AS(moe::cosine_top_k<double>({.width = 0, .experts = 4}), moe::config_error);
  CHECK_THROWS_AS(moe::cosine_top_k<double>({.width = 3, .experts = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::cosine_sigmoid_top_k<double>({.width = 3, .experts = 4, .k = 5}), moe::config_error);
}
