#include "moe/train/gradients.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/train/trained_layer.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"
#include "support/errors.hpp"
#include "train/plain_model.hpp"
#include "train/small_layer.hpp"

namespace {

using namespace test;

/// In long double, in order.
template <class T>
long double plain_norm(const PlainModel<T>& model) {
  long double squares = 0;
  for (const auto& range : model.ranges) {
    for (const T g : range.gradients) {
      squares += range.frozen ? 0 : static_cast<long double>(g) * static_cast<long double>(g);
    }
  }
  return std::sqrt(squares);
}

template <class T>
void check_norms() {
  PlainModel<T> model = plain_model<T>();
  CHECK(moe::global_norm(model) == 0);
  CHECK(moe::clip_by_global_norm(model, 1) == 0);
  model.draw_gradients(3, 1e-25);  // squares that floats lose
  const double tiny = moe::global_norm(model);
  CHECK(within(tiny, plain_norm(model), plain_norm(model) * gamma<double>(31000)));

  model.draw_gradients(4);
  const PlainModel<T> before = model;
  const double norm = moe::global_norm(model);
  CHECK(within(norm, plain_norm(model), plain_norm(model) * gamma<double>(31000)));
  CHECK(moe::clip_by_global_norm(model, norm) == norm);
  CHECK(same_values(model, before));
  CHECK(moe::clip_by_global_norm(model, 2) == norm);
  CHECK(within(moe::global_norm(model), 2, 2 * gamma<T>(4) + 2 * gamma<double>(31000)));
  for (std::size_t r = 0; r < model.ranges.size(); ++r) {
    const auto want = [&](Index i) {
      return static_cast<long double>(before.ranges[r].gradients[static_cast<std::size_t>(i)]) * 2 / norm;
    };
    CHECK(first_outside(model.ranges[r].gradients.data(), model.ranges[r].size(), want,
                        [&](Index i) { return gamma<T>(4) * std::fabs(want(i)); }) == -1);
  }

  for (const Index threads : {2, 3, 5}) {  // contract C3
    moe::PoolExecutor pool(threads);
    PlainModel<T> other = before;
    CHECK(moe::global_norm(other, pool) == norm);
    CHECK(moe::clip_by_global_norm(other, 2, pool) == norm);
    CHECK(same_values(other, model));
    moe::scale_gradients(other, 0, pool);
    CHECK(moe::global_norm(other, pool) == 0);
  }
}

}  // namespace

TEST_CASE("gradients are clipped to a norm that is the same for any thread count",
          "[train][smoke][threads]") {
  check_norms<float>();
  check_norms<double>();
}

TEST_CASE("gradients are scaled and zeroed; frozen ones are let alone", "[train]") {
  PlainModel<double> model = plain_model<double>();
  model.draw_gradients(5);
  model.ranges[1].frozen = true;
  const PlainModel<double> before = model;
  CHECK(within(moe::global_norm(model), plain_norm(model), plain_norm(model) * gamma<double>(31000)));
  moe::scale_gradients(model, -0.25);
  CHECK(model.ranges[0].gradients[7] == -0.25 * before.ranges[0].gradients[7]);
  CHECK(model.ranges[2].gradients[6] == -0.25 * before.ranges[2].gradients[6]);
  CHECK(model.ranges[1].gradients == before.ranges[1].gradients);
  moe::zero_gradients(model);
  CHECK(model.ranges[0].gradients == std::vector<double>(30100, 0));
  CHECK(model.ranges[1].gradients == before.ranges[1].gradients);
}

TEST_CASE("gradients that are not finite, and limits that are none, are refused", "[train]") {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  PlainModel<float> model = plain_model<float>();
  model.draw_gradients(6);
  const PlainModel<float> before = model;
  for (const double most : {0.0, -1.0, kInf, kNan}) {
    CHECK_THAT(message_of<moe::config_error>([&] { moe::clip_by_global_norm(model, most); }),
               Catch::Contains("gradient norm: expected a positive finite limit, got "));
  }
  CHECK(message_of<moe::config_error>([&] { moe::scale_gradients(model, kInf); }) ==
        "moe: gradient scale: expected a finite factor, got inf");
  CHECK(same_values(model, before));

  for (const double bad : {kInf, -kInf, kNan}) {
    model = before;
    model.ranges[2].gradients[3] = static_cast<float>(bad);
    CHECK_THAT(message_of<moe::numeric_error>([&] { moe::clip_by_global_norm(model, 1e-3); }),
               Catch::Contains("gradients of b.bias: expected finite numbers, got squares that add up to "));
    CHECK(model.ranges[0].gradients == before.ranges[0].gradients);
    CHECK_FALSE(moe::is_finite(moe::global_norm(model)));
  }
}

// y of a row has the same bits in any batch, and so has what its outer products are made of: micro-batches
// differ in the order of the sums over rows alone.
TEST_CASE("micro-batches add up to the gradient of the batch", "[train]") {
  constexpr Index kTokens = 24;
  SmallLayer layer = small_layer();
  const Rows x = Rows::Random(kTokens, layer.width()), c = Rows::Random(kTokens, layer.width());
  const auto gradients_of = [&](Index parts) {  // the mean over rows of <c, y>
    auto gradients = layer.make_gradients();
    std::vector<double> sizes;
    for (Index i = 0; i < parts; ++i) {
      const Index rows = kTokens / parts;
      const Rows dy = c.middleRows(i * rows, rows) / static_cast<double>(rows);
      add_gradients(layer, Rows(x.middleRows(i * rows, rows)), dy, gradients);
    }
    const moe::TrainedLayer trained(layer, gradients);
    moe::scale_gradients(trained, 1.0 / static_cast<double>(parts));
    return flat_gradients(trained);
  };
  const std::vector<double> whole = gradients_of(1), parts = gradients_of(4);
  std::vector<double> size(whole.size());  // of the sums, without signs
  for (Index t = 0; t < kTokens; ++t) {
    auto gradients = layer.make_gradients();
    add_gradients(layer, Rows(x.row(t)), Rows(c.row(t)), gradients);
    const std::vector<double> one = flat_gradients(moe::TrainedLayer(layer, gradients));
    for (std::size_t i = 0; i < size.size(); ++i) size[i] += std::fabs(one[i]) / kTokens;
  }
  // Divisions by rows and by parts, and a sum of at most kTokens products either way.
  CHECK(first_outside(
            parts.data(), static_cast<Index>(parts.size()),
            [&](Index i) { return static_cast<long double>(whole[static_cast<std::size_t>(i)]); },
            [&](Index i) { return 2 * gamma<double>(kTokens + 8) * size[static_cast<std::size_t>(i)]; }) ==
        -1);
}
