// A layer's call and its backward in double, every number of it, for layers that are to agree.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/layer/call/output.hpp"
#include "support/any_executor.hpp"
#include "support/catch.hpp"
#include "support/visits.hpp"

namespace test {

struct LayerNumbers {
  std::vector<double> y, dx, gradients;
  double losses = 0;
};

inline std::vector<double> normal_rows(moe::Index rows, moe::Index width, unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> x(static_cast<std::size_t>(rows * width));
  for (double& v : x) v = normal(random);
  return x;
}

/// forward_train and backward of standard normal rows, of which row `idle` takes no part.
template <class Layer>
LayerNumbers run_layer(const Layer& layer, moe::Index tokens, const std::vector<moe::Index>& ends,
                       unsigned seed = 1, moe::Index idle = -1) {
  const moe::Index d = layer.width();
  const std::vector<double> x = normal_rows(tokens, d, seed), dy = normal_rows(tokens, d, seed + 1);
  LayerNumbers r;
  r.y.resize(x.size());
  r.dx.resize(x.size());
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), tokens, d));
  in.segments = moe::Segments({ends.data(), ends.size()});
  std::vector<bool> valid(static_cast<std::size_t>(tokens), true);
  if (idle >= 0) valid[static_cast<std::size_t>(idle)] = false;
  in.valid = valid;
  moe::DrawCounter draws(5);
  in.draws = &draws;
  moe::LayerOutput<double> out(moe::MatrixView<double>(r.y.data(), tokens, d));
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  auto gradients = layer.make_gradients();
  layer.forward_train(in, out, tape, workspace, serial());
  layer.backward(tape,
                 typename Layer::LayerGradients(moe::ConstMatrixView<double>(dy.data(), tokens, d),
                                                moe::MatrixView<double>(r.dx.data(), tokens, d), gradients),
                 workspace, serial());
  const StorageVisit<const double> append = [&](const char*, const double*, const double* g, moe::Index n) {
    r.gradients.insert(r.gradients.end(), g, g + n);
  };
  layer.visit_storage(gradients, append);
  r.losses = out.losses.total();
  return r;
}

/// y of rows `x` [T, width], in inference.
template <class Layer>
std::vector<double> forward_rows(const Layer& layer, const std::vector<double>& x,
                                 const std::vector<moe::Index>& ends) {
  const moe::Index d = layer.width(), tokens = static_cast<moe::Index>(x.size()) / d;
  std::vector<double> y(x.size());
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), tokens, d));
  in.segments = moe::Segments({ends.data(), ends.size()});
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), tokens, d));
  moe::Workspace workspace;
  layer.forward(in, out, workspace, serial());
  return y;
}

/// To 1e-12 of the largest: sums of a few dozen terms of the same size, a thousand roundings.
inline void check_close(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 1, off = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(a[i]));
    off = std::max(off, std::isnan(a[i] - b[i]) ? INFINITY : std::abs(a[i] - b[i]));
  }
  CHECK(off <= 1e-12 * largest);
}

}  // namespace test
