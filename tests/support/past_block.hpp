// A block of the caller's for tests: every row looks at the rows before it in its segment, by their distance.
#pragma once

#include <cmath>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/depth/row_block.hpp"
#include "moe/storage/parameter.hpp"

namespace test {

/// y_i = tanh(A x_i + sum over j < i of the set and segment of B x_j / (1 + position_i - position_j)).
class PastBlock {
 public:
  using Index = moe::Index;
  using Real = double;
  struct Tape {
    moe::Buffer<double> y;
  };
  struct Gradients {
    moe::Buffer<double> a, b;
  };
  static constexpr const char* kName = "past";

  explicit PastBlock(Index width, double size = 0.3, bool looks_back = true)
      : width_(width), a_(width * width), b_(looks_back ? width * width : 0) {
    for (Index i = 0; i < width * width; ++i) {
      a_[i] = size * std::sin(static_cast<double>(3 * i + 1));
      if (looks_back) b_[i] = size * std::cos(static_cast<double>(5 * i + 2));
    }
  }

  Index width() const noexcept { return width_; }
  static constexpr moe::Coupling coupling(bool) noexcept { return moe::Coupling::per_segment; }

  template <moe::Executor X>
  void forward(const moe::BlockCall& call, const moe::ConstMatrixView<double>& x,
               const moe::MatrixView<double>& y, Tape* tape, moe::Arena&, X&) const {
    for (Index s = 0; s < call.segments; ++s) {
      for (Index i = call.segment_offsets[s]; i < call.segment_offsets[s + 1]; ++i) {
        for (Index o = 0; o < width_; ++o) {
          double u = 0;
          for (Index k = 0; k < width_; ++k) u += a_[o * width_ + k] * x(i, k);
          for (Index j = call.segment_offsets[s]; !b_.empty() && j < i; ++j) {
            for (Index k = 0; k < width_; ++k) u += near(call, i, j) * b_[o * width_ + k] * x(j, k);
          }
          y(i, o) = std::tanh(u);
        }
      }
    }
    if (tape == nullptr) return;
    double* const kept = tape->y.resize(call.count * width_);
    for (Index i = 0; i < call.count * width_; ++i) kept[i] = y(i / width_, i % width_);
  }

  template <moe::Executor X>
  void backward(const moe::BlockCall& call, const Tape& tape, const moe::ConstMatrixView<double>& x,
                const moe::ConstMatrixView<double>& dy, const moe::MatrixView<double>& dx,
                Gradients* gradients, moe::Arena&, X&) const {
    for (Index i = 0; i < call.count; ++i) {
      for (Index k = 0; k < width_; ++k) dx(i, k) = 0;
    }
    for (Index s = 0; s < call.segments; ++s) {
      for (Index i = call.segment_offsets[s]; i < call.segment_offsets[s + 1]; ++i) {
        for (Index o = 0; o < width_; ++o) {
          const double y = tape.y[i * width_ + o], du = dy(i, o) * (1 - y * y);
          for (Index k = 0; k < width_; ++k) {
            dx(i, k) += du * a_[o * width_ + k];
            if (gradients != nullptr) gradients->a[o * width_ + k] += du * x(i, k);
          }
          for (Index j = call.segment_offsets[s]; !b_.empty() && j < i; ++j) {
            for (Index k = 0; k < width_; ++k) {
              dx(j, k) += du * near(call, i, j) * b_[o * width_ + k];
              if (gradients != nullptr) gradients->b[o * width_ + k] += du * near(call, i, j) * x(j, k);
            }
          }
        }
      }
    }
  }

  /// f of all rows of one segment, row i at its place `position[i]`: what tests compose by hand.
  std::vector<double> operator()(const std::vector<double>& x, const std::vector<Index>& position) const {
    const Index n = static_cast<Index>(position.size());
    std::vector<double> y(x.size());
    const auto at = [&](Index i, Index k) { return x[static_cast<std::size_t>(i * width_ + k)]; };
    for (Index i = 0; i < n; ++i) {
      for (Index o = 0; o < width_; ++o) {
        double u = 0;
        for (Index j = 0; j <= i; ++j) {
          const double gap = static_cast<double>(position[static_cast<std::size_t>(i)] -
                                                 position[static_cast<std::size_t>(j)]);
          for (Index k = 0; k < width_; ++k) {
            if (j == i) u += a_[o * width_ + k] * at(i, k);
            if (j != i && !b_.empty()) u += b_[o * width_ + k] * at(j, k) / (1 + gap);
          }
        }
        y[static_cast<std::size_t>(i * width_ + o)] = std::tanh(u);
      }
    }
    return y;
  }

  Gradients make_gradients() const {
    return {moe::Buffer<double>(a_.size()), moe::Buffer<double>(b_.size())};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    if (!a_.empty()) show("a", a_, gradients == nullptr ? nullptr : gradients->a.data(), f);
    if (!b_.empty()) show("b", b_, gradients == nullptr ? nullptr : gradients->b.data(), f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    moe::visit_buffer(f, "a", a_, gradients, &Gradients::a);
    moe::visit_buffer(f, "b", b_, gradients, &Gradients::b);
  }

 private:
  static double near(const moe::BlockCall& call, Index i, Index j) noexcept {
    return 1.0 / (1 + call.position[i] - call.position[j]);
  }
  template <class Visitor>
  void show(const char* name, moe::Buffer<double>& values, double* gradient, Visitor& f) {
    f(moe::Parameter<double>{name,
                             {values.data(), width_, width_, 1, width_, 1},
                             {gradient, gradient == nullptr ? 0 : width_, width_, 1, width_, 1}});
  }

  Index width_;
  moe::Buffer<double> a_, b_;
};

}  // namespace test
