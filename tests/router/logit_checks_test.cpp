#include "moe/router/logit_checks.hpp"

#include <limits>
#include <vector>

#include "moe/core/buffer.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using moe::NonFinite;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Outcome {
  moe::Buffer<bool> spoiled, active;
};

Outcome check(std::vector<float> logits, Index cols, NonFinite policy, const bool* valid = nullptr) {
  const Index rows = static_cast<Index>(logits.size()) / cols;
  const moe::MatrixView<float> view(logits.data(), rows, cols);
  moe::RouterInput<float> in;
  in.x.rows = rows;
  if (valid != nullptr) in.valid = {valid, static_cast<std::size_t>(rows)};
  Outcome o{moe::Buffer<bool>(rows), moe::Buffer<bool>(rows)};
  moe::impl::check_logit_rows(in, view, policy, o.spoiled.data(), o.active.data());
  return o;
}

}  // namespace

TEST_CASE("finite and masked logits pass", "[logit_checks]") {
  for (const NonFinite policy : {NonFinite::throw_, NonFinite::isolate_row}) {
    const Outcome o = check({1, -kInfinity, 3.4e38f, -3.4e38f}, 2, policy);
    for (Index t = 0; t < 2; ++t) {
      CHECK(o.active[t]);
      CHECK(!o.spoiled[t]);
    }
  }
}

TEST_CASE("the message names token and expert", "[logit_checks]") {
  CHECK_THROWS_AS(check({kNan, 0}, 2, NonFinite::throw_), moe::numeric_error);
  CHECK_THROWS_WITH(check({0, 0, 0, 0, kNan, 0}, 2, NonFinite::throw_),
                    Catch::Matchers::Contains("for token 2, expert 0") && Catch::Matchers::Contains("nan"));
  CHECK_THROWS_WITH(check({0, 0, 0, kInfinity}, 2, NonFinite::throw_),
                    Catch::Matchers::Contains("got inf for token 1, expert 1"));
  CHECK_THROWS_WITH(check({0, 0, -kInfinity, -kInfinity}, 2, NonFinite::throw_),
                    Catch::Matchers::Contains("all -inf for token 1"));
}

TEST_CASE("isolated rows are marked, others are not", "[logit_checks]") {
  const Outcome o =
      check({0, 1, kNan, 1, 0, kInfinity, -kInfinity, -kInfinity, -kInfinity, 2}, 2, NonFinite::isolate_row);
  const bool spoiled[] = {false, true, true, true, false};
  for (Index t = 0; t < 5; ++t) {
    INFO("token " << t);
    CHECK(o.spoiled[t] == spoiled[t]);
    CHECK(o.active[t] == !spoiled[t]);
  }
}

TEST_CASE("padding is not looked at", "[logit_checks]") {
  const bool valid[] = {true, false};
  const Outcome o = check({0, 1, kNan, kNan}, 2, NonFinite::throw_, valid);
  CHECK(o.active[0]);
  CHECK(!o.active[1]);
  CHECK(!o.spoiled[1]);
}
