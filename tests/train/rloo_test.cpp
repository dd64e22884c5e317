#include "moe/train/rloo.hpp"

#include <cmath>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::Index;
using View = moe::MatrixView<double>;

TEST_CASE("every advantage is the loss less the mean of the other samples, over M", "[train][smoke]") {
  for (const Index samples : {2, 3, 5}) {
    constexpr Index kRows = 4;
    std::vector<double> loss, advantage(static_cast<std::size_t>(samples * kRows), 7);
    for (Index i = 0; i < samples * kRows; ++i) loss.push_back(std::sin(static_cast<double>(5 * i)));
    const View of_loss(loss.data(), samples, kRows), of_advantage(advantage.data(), samples, kRows);
    moe::rloo(of_loss, of_advantage);
    for (Index t = 0; t < kRows; ++t) {
      double sum = 0;
      for (Index m = 0; m < samples; ++m) {
        double others = 0;
        for (Index n = 0; n < samples; ++n) others += n == m ? 0 : of_loss(n, t);
        const double left_out = of_loss(m, t) - others / static_cast<double>(samples - 1);
        CHECK(std::abs(of_advantage(m, t) - left_out / static_cast<double>(samples)) < 1e-15);
        sum += of_advantage(m, t);
      }
      CHECK(std::abs(sum) < 1e-15);
    }
    moe::rloo(of_loss, of_loss);  // in place
    CHECK(loss == advantage);
  }
}

TEST_CASE("losses of samples are checked", "[train]") {
  std::vector<double> loss{1, 2, std::nan(""), 4}, advantage(4, 7);
  const auto call = [&](Index rows, double* to) {
    return [&, rows, to] { moe::rloo(View(loss.data(), rows, 2), View(to, rows, 2)); };
  };
  CHECK(test::message_of<moe::shape_error>(call(1, advantage.data())) ==
        "moe: loss: expected at least 2 rows, one per sample, got 1");
  CHECK(test::message_of<moe::numeric_error>(call(2, advantage.data())) ==
        "moe: loss: expected finite values, got nan of sample 1, row 0");
  CHECK(advantage == std::vector<double>(4, 7));
  CHECK_THROWS_AS(moe::rloo(View(loss.data(), 2, 2), View(advantage.data(), 2, 1)), moe::shape_error);
  std::vector<double> long_loss(6, 1);
  CHECK_THROWS_AS(moe::rloo(View(long_loss.data(), 2, 2), View(long_loss.data() + 1, 2, 2)),
                  moe::shape_error);
  CHECK_NOTHROW(moe::rloo(View(nullptr, 3, 0), View(nullptr, 3, 0)));  // no rows
}
