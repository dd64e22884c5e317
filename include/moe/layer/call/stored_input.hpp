// The input of a call, kept on its tape.
#pragma once

#include <cstring>
#include <span>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/core/view.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// A copy of a call's input, so that backward does not depend on the caller's memory.
template <class Real>
class StoredInput {
 public:
  void store(const RouterInput<Real>& in, const ConstMatrixView<Real>& x) {
    const Index tokens = x.rows;
    copy_rows(x, x_);
    width_ = x.cols;
    separate_router_ = in.x.data != x.data;
    if (separate_router_) copy_rows(in.x, router_x_);
    router_width_ = in.x.cols;
    in_ = in;
    store_span(in.valid, tokens, valid_, in_.valid);
    store_span(in.row_key, tokens, row_key_, in_.row_key);
    store_span(in.token_id, tokens, token_id_, in_.token_id);
    if (!in.logit_mask.empty()) {
      copy_rows(in.logit_mask, mask_);
      in_.logit_mask = ConstMatrixView<Real>(mask_.data(), in.logit_mask.rows, in.logit_mask.cols);
    }
    const Index segments = in.segments.count(tokens);
    if (in.segments.given()) {
      offsets_.resize(segments + 1);
      for (Index s = 0; s < segments; ++s) offsets_[s] = in.segments.begin(s);
      offsets_[segments] = tokens;
      in_.segments =
          Segments(std::span<const Index>(offsets_.data(), static_cast<std::size_t>(segments + 1)));
    }
    in_.x =
        separate_router_ ? ConstMatrixView<Real>(router_x_.data(), tokens, router_width_) : this->x(tokens);
  }

  /// `outside_counts` has E entries, which only the router knows.
  void store_outside_counts(Index experts) {
    if (in_.outside_counts == nullptr) return;
    outside_counts_.copy_from(in_.outside_counts, experts);
    in_.outside_counts = outside_counts_.data();
  }

  ConstMatrixView<Real> x(Index tokens) const { return {x_.data(), tokens, width_}; }
  const RouterInput<Real>& router_input() const noexcept { return in_; }
  bool separate_router() const noexcept { return separate_router_; }

 private:
  static void copy_rows(const ConstMatrixView<Real>& from, Buffer<Real>& to) {
    to.resize(checked_product("tape", from.rows, from.cols));
    for (Index i = 0; i < from.rows && from.cols > 0; ++i) {
      std::memcpy(to.data() + i * from.cols, from.row(i), static_cast<std::size_t>(from.cols) * sizeof(Real));
    }
  }
  template <class T>
  static void store_span(const T* values, Index n, Buffer<T>& to, const T*& stored) {
    if (values == nullptr) return;
    to.copy_from(values, n);
    stored = to.data();
  }

  RouterInput<Real> in_{};
  Buffer<Real> x_, router_x_, mask_;
  Buffer<bool> valid_;
  Buffer<std::uint64_t> row_key_;
  Buffer<TokenId> token_id_;
  Buffer<Index> offsets_;
  Buffer<double> outside_counts_;
  Index width_ = 0;
  Index router_width_ = 0;
  bool separate_router_ = false;
};

}  // namespace impl

MOE_NAMESPACE_END
