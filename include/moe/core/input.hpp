// What goes into a call: token rows, segments, masks, identities, options.
#pragma once

#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/probes.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"

MOE_NAMESPACE_BEGIN

/// Which rows belong to one request. Coupled routers never look across a segment's border (contract C2).
class Segments {
 public:
  /// None given: the batch is one segment, which coupled routers refuse in inference mode.
  Segments() = default;
  /// offsets[0] = 0 <= offsets[1] <= ... <= offsets[S] = T.
  explicit Segments(Column<Index> offsets)
      : offsets_(std::move(offsets)), count_(static_cast<Index>(offsets_.size()) - 1) {
    if (offsets_.empty()) fail<shape_error>("segments: expected S + 1 offsets, got none");
  }
  /// Every segment has `rows` rows, as in a tensor [batch, sequence, D].
  static Segments uniform(Index rows) {
    if (rows < 1) fail<shape_error>("segments: expected at least 1 row each, got ", rows);
    Segments s;
    s.rows_each_ = rows;
    return s;
  }

  bool given() const noexcept { return !offsets_.empty() || rows_each_ > 0; }
  Index count(Index tokens) const noexcept {
    if (!offsets_.empty()) return count_;
    return rows_each_ > 0 ? ceil_div(tokens, rows_each_) : 1;
  }
  Index begin(Index s) const noexcept { return !offsets_.empty() ? offsets_[s] : s * rows_each_; }
  Index end(Index s, Index tokens) const noexcept {
    if (!offsets_.empty()) return offsets_[s + 1];
    return rows_each_ > 0 ? (s + 1) * rows_each_ : tokens;
  }
  /// The same segments, as long as these are there.
  Segments borrow() const noexcept {
    Segments s;
    s.offsets_ = offsets_.borrow();
    s.count_ = count_;
    s.rows_each_ = rows_each_;
    return s;
  }

  /// Throws shape_error unless the segments cover exactly `tokens` rows in ascending order.
  void check(Index tokens) const {
    if (rows_each_ > 0 && tokens % rows_each_ != 0) {
      fail<shape_error>("segments: expected a multiple of ", rows_each_, " rows, got ", tokens);
    }
    if (offsets_.empty()) return;
    if (offsets_[0] != 0) fail<shape_error>("segments: expected the first offset to be 0, got ", offsets_[0]);
    for (Index s = 0; s < count_; ++s) {
      if (offsets_[s + 1] < offsets_[s]) {
        fail<shape_error>("segments: expected ascending offsets, got ", offsets_[s + 1], " after ",
                          offsets_[s], " at position ", s + 1);
      }
    }
    if (offsets_[count_] != tokens) {
      fail<shape_error>("segments: expected the last offset to be ", tokens, " rows, got ", offsets_[count_]);
    }
  }

 private:
  Column<Index> offsets_;
  Index count_ = 0;
  Index rows_each_ = 0;
};

/// Knobs that may change from call to call without a new layer. 0 means "as the router was built". What a
/// router cannot obey it refuses.
struct CallOptions {
  Index experts_per_token = 0;  // K of top-k selections
  double capacity_factor = 0;   // of a layer's capacity if it has a factor, which then keeps it from the
                                // router; else of the router (expert choice: average experts per token)
  double temperature = 0;       // logits are divided by it
  double threshold = 0;         // choice scores must lie above it, for selections by threshold
  double p = 0;                 // probability mass to choose, for selections by mass

  /// f(name, member) for every option: the names that router/call_options.hpp reads.
  template <class F>
  static constexpr void each(F&& f) {
    f("k", &CallOptions::experts_per_token);
    f("capacity_factor", &CallOptions::capacity_factor);
    f("temperature", &CallOptions::temperature);
    f("threshold", &CallOptions::threshold);
    f("p", &CallOptions::p);
  }

  friend bool operator==(const CallOptions&, const CallOptions&) = default;
};

/// The size of a call, for workspace_bytes(). `segments` may be an upper bound.
struct CallShape {
  Index tokens = 0;
  Index segments = 1;
  CallOptions options{};
};

/// How many entries or rows a column has.
enum class ColumnSize : std::uint8_t { tokens, one_or_tokens, experts };

/// What may be told about the rows of a call besides their numbers: every column is optional, empty where it
/// is not given, and borrowed for the call (what core/column.hpp converts belongs to the input). What a
/// column says of a row must come from that row's segment alone (contract C2), which is why `mixing` counts
/// rows within the segment.
template <class Real>
struct InputColumns {
  Column<bool> valid{};             // [T] false: padding, takes part in nothing, its output row is 0
  Column<std::uint64_t> row_key{};  // [T] identity of a row for random draws; default its position
  Column<TokenId> token_id{};       // [T] vocabulary ids
  Column<std::int32_t> task{};      // [T] small numbers that parts look up
  Column<std::int32_t> modality{};
  Column<std::int32_t> language{};
  Column<std::int32_t> adapter{};
  Column<std::int32_t> label{};
  Column<std::int32_t> device{};       // where the row lies
  Column<double> outside_counts{};     // [E] choices in other micro-batches, for the balance loss [197]
  ConstMatrixView<Real> logit_mask{};  // [1 or T, N] added to the logits; -inf masks an expert
  ConstMatrixView<Real> features{};    // [T, S] importance, a sentence's embedding, flags
  ConstMatrixView<Real> mixing{};  // [T, L] attention of row t to the rows of its own segment, L the longest
  ConstMatrixView<Real> carry{};   // [T, R] what the router of the layer before handed on; the first has none
  ConstMatrixView<Real> target{};  // [T, N] what the router should have chosen
  ConstMatrixView<ExpertId> replay{};  // [T, K] experts to choose again; -1 ends a row

  /// f(name, member, size) for every column. Input, checks, tapes and tests walk this list: a column is one
  /// member above and one line here.
  template <class F>
  static constexpr void each(F&& f) {
    using C = InputColumns;
    f("valid", &C::valid, ColumnSize::tokens);
    f("row_key", &C::row_key, ColumnSize::tokens);
    f("token_id", &C::token_id, ColumnSize::tokens);
    f("task", &C::task, ColumnSize::tokens);
    f("modality", &C::modality, ColumnSize::tokens);
    f("language", &C::language, ColumnSize::tokens);
    f("adapter", &C::adapter, ColumnSize::tokens);
    f("label", &C::label, ColumnSize::tokens);
    f("device", &C::device, ColumnSize::tokens);
    f("outside_counts", &C::outside_counts, ColumnSize::experts);
    f("logit_mask", &C::logit_mask, ColumnSize::one_or_tokens);
    f("features", &C::features, ColumnSize::tokens);
    f("mixing", &C::mixing, ColumnSize::tokens);
    f("carry", &C::carry, ColumnSize::tokens);
    f("target", &C::target, ColumnSize::tokens);
    f("replay", &C::replay, ColumnSize::tokens);
  }
};

/// One call's input. Every field but `x` is optional; spans and views are borrowed for the call.
template <class Real>
struct LayerInput : InputColumns<Real> {
  ConstMatrixView<Real> x;           // [T, D] rows the experts read
  ConstMatrixView<Real> router_x{};  // [T, Dr] rows the router reads; default x
  Segments segments{};               // one per request
  CallOptions options{};
  Mode mode = Mode::by_call;
  DrawCounter* draws = nullptr;  // what a router that draws is trained with; every call advances it

  LayerInput() = default;
  /// From anything a row-major view takes; a tensor [batch, sequence, D] makes every sequence a segment.
  template <class M>
  requires std::is_convertible_v<M&&, ConstMatrixView<Real>> LayerInput(M&& rows)
      : x(std::forward<M>(rows)) {  // NOLINT(google-explicit-constructor)
    if constexpr (impl::RankThreeTensor<std::remove_reference_t<M>>) {
      if (rows.dimension(1) > 0) segments = Segments::uniform(Index{rows.dimension(1)});
    }
  }
  template <impl::MistakenMatrix<const Real> M>
  explicit LayerInput(M&&) {
    impl::refuse_matrix<M, const Real>();
  }
};

template <impl::MatrixOrView M>
LayerInput(M&&) -> LayerInput<std::remove_const_t<impl::ElementOf<M>>>;

/// What a router sees of it, defaults resolved and checked.
template <class Real>
struct RouterInput : InputColumns<Real> {
  ConstMatrixView<Real> x;  // [T, Dr]
  Segments segments{};
  CallOptions options{};
  bool training = false;
  std::optional<DrawKey> draws{};
  Probes<Real> probes{};  // of a layer whose experts were asked first (layer/probe), else empty

  Index tokens() const noexcept { return x.rows; }
  bool takes_part(Index t) const noexcept { return this->valid.empty() || this->valid.data()[t]; }
  std::uint64_t key(Index t) const noexcept {
    return this->row_key.empty() ? static_cast<std::uint64_t>(t) : this->row_key.data()[t];
  }
  const Real* mask_row(Index t) const noexcept {
    const ConstMatrixView<Real>& mask = this->logit_mask;
    return mask ? mask.row(mask.rows == 1 ? 0 : t) : nullptr;
  }

  /// For the check_call of a part that draws: throws config_error if the call has no key.
  void require_draws(const char* part) const {
    if (!draws) impl::refuse_no_draws(part);
  }
  KeyedRandom random(DrawStream stream) const noexcept {
    MOE_ASSERT(draws.has_value());
    return {draws.value_or(DrawKey{}), stream};
  }
};

MOE_NAMESPACE_END
