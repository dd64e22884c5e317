#include "moe/train/null_space.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moe/train/adamw.hpp"
#include "moe/train/sgd.hpp"
#include "moe/train/trained_layer.hpp"
#include "support/catch.hpp"
#include "train/small_layer.hpp"

namespace {

using moe::Index;
using moe::NullSpaceProjector;
using test::Rows;

constexpr Index kWidth = 10, kExperts = 5;

/// R rows of rank 3, unit numbers.
Rows kept_rows(Index rows = 40) {
  return Rows::Random(rows, 3) * Rows::Random(3, kWidth);
}

template <class Layer, class F>
void with_gate(Layer& layer, typename Layer::Gradients& gradients, F f) {
  layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    if (std::string(p.name).ends_with("gate.weight")) f(p);
  });
}

Rows weights_of(test::SmallLayer& layer) {
  Rows w(kExperts, kWidth);
  auto gradients = layer.make_gradients();
  with_gate(layer, gradients, [&](const moe::Parameter<double>& p) { p.value.copy_to(w); });
  return w;
}

double largest(const Rows& m) {
  return m.cwiseAbs().maxCoeff();
}

}  // namespace

TEST_CASE("the projector takes the span of the rows away, whatever their scale, and nothing else", "[grip]") {
  const Rows x = kept_rows();
  for (const double scale : {1.0, 1e-200, 1e150}) {
    const Rows scaled = scale * x;
    const auto p = moe::null_space_projector(scaled);
    REQUIRE(p.rank() == 3);
    Rows projected = Rows::Identity(kWidth, kWidth);
    for (Index i = 0; i < kWidth; ++i) p.project(projected.row(i).data());
    CHECK(largest(projected * x.transpose()) < 1e-14 * 10);
    CHECK(largest(projected * projected - projected) < 1e-14);
    CHECK(std::abs(projected.trace() - (kWidth - 3)) < 1e-13);
  }
  // A basis is its own span; a projector of no rows is the identity, one of all rows takes everything.
  Rows basis(2, kWidth);
  basis.setZero();
  basis(0, 4) = basis(1, 7) = 1;
  Rows ones = Rows::Ones(1, kWidth);
  moe::null_space_projector(basis).project(ones.data());
  CHECK((ones(0, 4) == 0 && ones(0, 7) == 0 && ones.sum() == kWidth - 2));
  CHECK(moe::null_space_projector(Rows(0, kWidth)).rank() == 0);
  CHECK(moe::null_space_projector(Rows(Rows::Zero(4, kWidth))).rank() == 0);
  CHECK(moe::null_space_projector(Rows(Rows::Random(40, kWidth))).rank() == kWidth);
  CHECK(moe::null_space_projector(Eigen::Matrix<float, 1, kWidth, Eigen::RowMajor>(
                                      Eigen::Matrix<float, 1, kWidth, Eigen::RowMajor>::Ones()))
            .rank() == 1);
}

TEST_CASE("the largest directions come first, where not all are kept", "[grip]") {
  Rows x = Rows::Zero(3, kWidth);
  x(0, 2) = 1, x(1, 5) = 100, x(2, 8) = 1e-12;
  CHECK(moe::null_space_projector(x).rank() == 2);
  CHECK(moe::null_space_projector(x, {.tolerance = 0}).rank() == 3);
  CHECK(moe::null_space_projector(x, {.tolerance = 0.1}).rank() == 1);
  const auto p = moe::null_space_projector(x, {.most = 1});
  REQUIRE(p.rank() == 1);
  CHECK(std::abs(p.direction(0)[5]) == 1);
}

TEST_CASE("projected gradients keep the logits of the rows in any number of SGD steps, not of AdamW",
          "[grip]") {
  const Rows kept = kept_rows(), x = Rows::Random(64, kWidth);
  const std::vector<NullSpaceProjector> p{moe::null_space_projector(kept)};
  const auto train = [&](auto optimiser, double rate, bool anchored) {
    test::SmallLayer layer = test::small_layer();
    const Rows before = weights_of(layer);
    auto gradients = layer.make_gradients();
    Rows y0 = Rows::Zero(64, kWidth);
    auto start = layer.make_gradients();
    std::vector<moe::NullSpaceAnchor<double>> anchor;
    with_gate(layer, start,
              [&](const moe::Parameter<double>& q) { anchor.emplace_back(q.value.as_const()); });
    REQUIRE(anchor.size() == 1);
    for (int step = 0; step < 100; ++step) {
      test::add_gradients(layer, x, Rows(Rows::Random(64, kWidth)), gradients);
      if (!anchored) {
        with_gate(layer, gradients, [&](const moe::Parameter<double>& q) {
          moe::project_gradient(q.gradient, std::span<const NullSpaceProjector>(p));
        });
      }
      optimiser.step(moe::TrainedLayer(layer, gradients), rate);
      if (anchored) {
        with_gate(layer, gradients, [&](const moe::Parameter<double>& q) {
          anchor[0].hold(q.value, std::span<const NullSpaceProjector>(p));
        });
      }
    }
    const Rows change = weights_of(layer) - before;
    CHECK(largest(change * x.transpose()) > 0.05);  // it learns
    return largest(change * kept.transpose());
  };
  CHECK(train(moe::Sgd<double>(), 0.02, false) < 1e-12);
  CHECK(train(moe::Sgd<double>({.momentum = 0.9}), 0.005, false) < 1e-12);
  CHECK(train(moe::AdamW<double>({.decay = 0.1}), 0.02, false) > 1e-3);
  CHECK(train(moe::AdamW<double>({.decay = 0.1}), 0.02, true) < 1e-14);
  CHECK(train(moe::Sgd<double>({.momentum = 0.9}), 0.005, true) < 1e-14);
}

TEST_CASE("experts may keep rows of their own", "[grip]") {
  Rows axes = Rows::Zero(2, kWidth);
  axes(0, 1) = axes(1, 6) = 1;
  std::vector<NullSpaceProjector> p(3, NullSpaceProjector(kWidth));
  p[0] = moe::null_space_projector(Rows(axes.topRows(1)));
  p[2] = moe::null_space_projector(axes);
  std::vector<float> g(3 * kWidth, 2);
  const moe::ParameterView<float> view{g.data(), 3, kWidth, 1, kWidth, 1};
  moe::project_gradient(view, std::span<const NullSpaceProjector>(p));
  for (Index e = 0; e < 3; ++e) {
    for (Index i = 0; i < kWidth; ++i) {
      CHECK(view(e, i) == ((e != 1 && i == 1) || (e == 2 && i == 6) ? 0.0f : 2.0f));
    }
  }
}

TEST_CASE("what cannot be projected is refused", "[grip]") {
  const Rows x = kept_rows();
  for (const double bad : {-1.0, 1.0, std::nan("")}) {
    CHECK_THROWS_AS(moe::null_space_projector(x, {.tolerance = bad}), moe::config_error);
  }
  CHECK_THROWS_AS(moe::null_space_projector(x, {.most = -1}), moe::config_error);
  CHECK_THROWS_AS(moe::null_space_projector(Rows(3, 0)), moe::shape_error);
  CHECK_THROWS_AS(NullSpaceProjector(0), moe::config_error);
  Rows bad = x;
  bad(4, 2) = std::numeric_limits<double>::infinity();
  CHECK_THROWS_WITH(moe::null_space_projector(bad),
                    "moe: null space: expected finite rows, got inf in row 4");
  std::vector<double> w(3 * kWidth, 1);
  const moe::ParameterView<double> view{w.data(), 3, kWidth, 1, kWidth, 1};
  const std::vector<NullSpaceProjector> two(2, NullSpaceProjector(kWidth)), narrow{NullSpaceProjector(4)};
  CHECK_THROWS_WITH(moe::project_gradient(view, std::span<const NullSpaceProjector>(two)),
                    "moe: null space: expected one projector, or one for each of 3 experts, got 2");
  CHECK_THROWS_AS(moe::project_gradient(view, std::span<const NullSpaceProjector>(narrow)), moe::shape_error);
  const moe::NullSpaceAnchor<double> anchor(view.as_const());
  const moe::ParameterView<double> other{w.data(), 2, kWidth, 1, kWidth, 1};
  CHECK_THROWS_AS(anchor.hold(other, std::span<const NullSpaceProjector>(two)), moe::shape_error);
  CHECK_THROWS_AS(anchor.hold(view, std::span<const NullSpaceProjector>(two)), moe::shape_error);
}
