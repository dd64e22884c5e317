// The weights of all experts z = second(unit(first(x))), packed as the kernels read them, or their gradients,
// which look the same. What `unit` does is not known here, only how many matrices the first layer has.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/storage/packed_blocks.hpp"
#include "moe/storage/packed_matrix.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct TwoLayerOptions {
  Index experts = 0;  // E >= 1
  Index width = 0;    // D >= 1
  Index hidden = 0;   // F >= 1
  bool bias = false;  // of every matrix
  Index output = 0;   // Do: columns of the results; 0: D. Other than D for banks inside of banks alone

  friend bool operator==(const TwoLayerOptions&, const TwoLayerOptions&) = default;
};

/// How parameters are called and how many matrices stand side by side in the first layer.
struct MlpLayout {
  static constexpr Index kParts = 1;
  static constexpr const char* kPart[kParts] = {"fc1"};
  static constexpr const char* kSecond = "fc2";
  static constexpr const char* kFirstStorage = "experts.fc1";
  static constexpr const char* kSecondStorage = "experts.fc2";
};

struct GluLayout {
  static constexpr Index kParts = 2;  // paired panels: gate | up
  static constexpr const char* kPart[kParts] = {"gate_proj", "up_proj"};
  static constexpr const char* kSecond = "down_proj";
  static constexpr const char* kFirstStorage = "experts.gate_up";
  static constexpr const char* kSecondStorage = "experts.down";
};

/// Where the matrices and biases of experts of one shape lie, expert after expert: those of a bank, its
/// gradients, or one expert that was merged from them (expert/two_layer/merging.hpp). T, a storage, may be
/// const.
template <class T>
struct TwoLayerWeights {
  using Real = typename StorageTraits<std::remove_const_t<T>>::Real;
  using Bias = std::conditional_t<std::is_const_v<T>, const Real, Real>;

  Index experts = 0;
  PackedMatrices<T> first{};
  PackedMatrices<T> second{};
  Bias* first_biases = nullptr;   // [E, first_pitch], null without biases, as
  Bias* second_biases = nullptr;  // [E, second_pitch]
  Index first_pitch = 0;
  Index second_pitch = 0;

  Bias* first_bias(Index e) const noexcept { return first_biases + e * first_pitch; }
  Bias* second_bias(Index e) const noexcept { return second_biases + e * second_pitch; }
};

/// One buffer per kind of matrix, expert after expert. Kernels get at an expert only through first(e),
/// second(e) and their biases, the first layer [D][panels] and the second [F][plain_panels(Do)]; biases stand
/// in panel order.
template <class Layout, class Storage>
class TwoLayerParameters {
 public:
  using LayoutType = Layout;
  using Real = typename StorageTraits<Storage>::Real;
  using Element = typename StorageTraits<Storage>::Element;
  static constexpr Index kParts = Layout::kParts;
  /// Hidden columns of one panel of the first layer; part p of them starts at p * kColumns.
  static constexpr Index kColumns = kPanel<Real> / kParts;
  /// Panels of the first layer that are computed together. The hidden values of a block storage are rounded
  /// in groups of kBlockRows, so that many must be there at once.
  static constexpr Index kTilePanels = BlockStorage<Storage> ? kBlockRows / kColumns : 1;

  /// All zero; with `weights` false, of the biases alone. Throws config_error for an extent below 1, or
  /// inputs that the storage cannot sum (kMostInputs), size_error when the weights would not fit 63 bits;
  /// both name it.
  explicit TwoLayerParameters(const TwoLayerOptions& options, bool weights = true)
      : shape_(checked(options)) {
    const Index first = checked_product("first layer of the experts", experts(), first_size());
    const Index second = checked_product("second layer of the experts", experts(), second_size());
    if (weights) {
      first_.assign(first, Element{});
      second_.assign(second, Element{});
    }
    if (!has_bias()) return;
    first_bias_.assign(experts() * bias_positions(), Real{0});
    second_bias_.assign(experts() * second_positions(), Real{0});
  }

  Index experts() const noexcept { return shape().experts; }
  Index width() const noexcept { return shape().width; }
  Index output() const noexcept { return shape().output; }
  Index hidden() const noexcept { return shape().hidden; }
  bool has_bias() const noexcept { return shape().bias; }
  bool has_weights() const noexcept { return !first_.empty(); }
  const TwoLayerOptions& shape() const noexcept { return shape_; }

  /// Throws shape_error unless `gradients` (null: frozen) have this shape, and the weights of a dense
  /// storage.
  void check(const TwoLayerParameters<Layout, Real>* gradients) const {
    if (gradients == nullptr) return;
    const TwoLayerOptions &want = shape(), &got = gradients->shape();
    const bool weights = DenseStorage<Storage> ? has_weights() : gradients->has_weights();
    if (want == got && gradients->has_weights() == weights) return;
    const auto bias = [](bool any) { return any ? "with biases" : "without biases"; };
    fail<shape_error>("gradients of the experts: expected those of ", want.experts, " experts ", want.width,
                      " x ", want.hidden, " x ", want.output, " ", bias(want.bias),
                      " (ask make_gradients()), got ", got.experts, " experts ", got.width, " x ", got.hidden,
                      " x ", got.output, " ", bias(got.bias),
                      gradients->has_weights() == weights ? "" : " and no weights");
  }

  Index first_panels() const noexcept { return round_up(used_panels(), kTilePanels); }
  /// Panels that hold a hidden column, and the positions that have a bias.
  Index used_panels() const noexcept { return ceil_div(hidden(), kColumns); }
  Index bias_positions() const noexcept { return used_panels() * kPanel<Real>; }
  /// Numbers of one row in front of the unit, padding included; from row to row of those, and of the hidden
  /// values behind it.
  Index first_positions() const noexcept { return first_panels() * kPanel<Real>; }
  Index first_stride() const noexcept { return row_stride<Real>(first_positions()); }
  Index hidden_stride() const noexcept { return row_stride<Real>(first_panels() * kColumns); }

  TwoLayerWeights<const Storage> weights() const noexcept { return weights_at<const Storage>(*this); }
  TwoLayerWeights<Storage> weights() noexcept { return weights_at<Storage>(*this); }
  /// Elements of all of it, for who keeps an expert of this shape elsewhere.
  Index first_size() const noexcept { return packed_size<Storage>(width(), first_panels()); }
  Index second_size() const noexcept { return packed_size<Storage>(hidden(), second_panels()); }
  Index second_positions() const noexcept { return second_panels() * kPanel<Real>; }
  Index second_panels() const noexcept { return plain_panels<Real>(output()); }

  PackedView<const Storage> first(Index e) const noexcept {
    return {first_.data() + e * first_size(), width(), first_panels()};
  }
  PackedView<Storage> first(Index e) noexcept {
    return {first_.data() + e * first_size(), width(), first_panels()};
  }
  PackedView<const Storage> second(Index e) const noexcept {
    return {second_.data() + e * second_size(), hidden(), second_panels()};
  }
  PackedView<Storage> second(Index e) noexcept {
    return {second_.data() + e * second_size(), hidden(), second_panels()};
  }
  const Real* first_bias(Index e) const noexcept { return first_bias_.data() + e * bias_positions(); }
  Real* first_bias(Index e) noexcept { return first_bias_.data() + e * bias_positions(); }
  const Real* second_bias(Index e) const noexcept { return second_bias_.data() + e * second_positions(); }
  Real* second_bias(Index e) noexcept { return second_bias_.data() + e * second_positions(); }

  /// Matrix `part` of expert e's first layer as published, [F, D], and the others likewise; biases [n, 1].
  ParameterView<Real> first_view(Index e, Index part) noexcept requires DenseStorage<Storage> {
    return {first(e).data + part * kColumns, hidden(),    width(), kColumns,
            width() * kPanel<Real>,          kPanel<Real>};
  }
  ParameterView<Real> second_view(Index e) noexcept requires DenseStorage<Storage> {
    return {second(e).data, output(), hidden(), kPanel<Real>, hidden() * kPanel<Real>, kPanel<Real>};
  }
  ParameterView<Real> first_bias_view(Index e, Index part) noexcept {
    return {first_bias(e) + part * kColumns, hidden(), 1, kColumns, kPanel<Real>, 1};
  }
  ParameterView<Real> second_bias_view(Index e) noexcept { return {second_bias(e), output(), 1}; }

  Index bytes() const noexcept {
    return (first_.size() + second_.size()) * Index{sizeof(Element)} +
           (first_bias_.size() + second_bias_.size()) * Index{sizeof(Real)};
  }

  /// The matrices of expert e from published layouts: `part` [kParts] of [F, D], second [D, F]; block
  /// storages round them.
  void load(Index e, const ConstMatrixView<Real>* part, const ConstMatrixView<Real>& second_matrix) noexcept {
    if constexpr (BlockStorage<Storage>) {
      pack_blocks(first(e), [&](Index position) noexcept { return first_column(part, position); });
      pack_blocks(second(e), [&](Index position) noexcept {
        return position < output() ? second_matrix.row(position) : nullptr;
      });
    } else {
      for (Index p = 0; p < kParts; ++p) pack_part(part[p], p, first(e));
      pack_plain<Real>(second_matrix, second(e));
    }
  }

  /// The same of codes and scales, which are not rounded again.
  template <StorageGroups<Storage> Groups>
  void load_groups(Index e, const Groups* part, const Groups& second_matrix) noexcept {
    pack_groups(first(e), [&](Index position) noexcept {
      const Index column = hidden_of(position);
      const Groups* const from = &part[position % kPanel<Real> / kColumns];
      return GroupRow<Groups>{column < hidden() ? from : nullptr, column};
    });
    pack_groups(second(e), [&](Index position) noexcept {
      return GroupRow<Groups>{position < output() ? &second_matrix : nullptr, position};
    });
  }

  /// The inverse: what the kernels multiply with.
  void unpack(Index e, const MatrixView<Real>* part, const MatrixView<Real>& second_matrix) const noexcept {
    if constexpr (BlockStorage<Storage>) {
      unpack_blocks(first(e), [&](Index position) noexcept { return first_column(part, position); });
      unpack_blocks(second(e), [&](Index position) noexcept {
        return position < output() ? second_matrix.row(position) : nullptr;
      });
    } else {
      for (Index p = 0; p < kParts; ++p) unpack_part(first(e), p, part[p]);
      unpack_plain(second(e), second_matrix);
    }
  }

  /// The weights of another storage, expert by expert, rounded; biases as they are. Allocates one expert's
  /// matrices. Throws numeric_error naming the matrix for numbers that cannot be rounded.
  template <class From>
  void assign(const TwoLayerParameters<Layout, From>& other) {
    MOE_ASSERT(shape() == other.shape());
    const Index size = width() * hidden();
    Buffer<Real> numbers(checked_product("an expert's matrices", kParts * width() + output(), hidden()));
    const MatrixView<Real> second_matrix(numbers.data() + kParts * size, output(), hidden());
    MatrixView<Real> part[kParts];
    ConstMatrixView<Real> read[kParts];
    for (Index p = 0; p < kParts; ++p) {
      read[p] = part[p] = MatrixView<Real>(numbers.data() + p * size, hidden(), width());
    }
    for (Index e = 0; e < experts(); ++e) {
      other.unpack(e, part, second_matrix);
      if constexpr (BlockStorage<Storage>) {
        for (Index p = 0; p < kParts; ++p) require_roundable<Storage>(Layout::kPart[p], read[p]);
        require_roundable<Storage>(Layout::kSecond, second_matrix);
      }
      load(e, read, second_matrix);
    }
    first_bias_.copy_from(other.first_bias_.data(), other.first_bias_.size());
    second_bias_.copy_from(other.second_bias_.data(), other.second_bias_.size());
  }

  /// Matrices uniform in +-1 / sqrt(inputs), biases 0. The draw of an element depends on (seed, matrix,
  /// expert, its place in the published matrix) alone; block storages round it. Allocates the columns that
  /// are rounded together.
  template <Executor X>
  void initialise(std::uint64_t seed, X& executor) {
    first_bias_.fill(0);
    second_bias_.fill(0);
    if constexpr (BlockStorage<Storage>) {
      const Index longest = (std::max)(width(), hidden());
      Buffer<Real> columns(checked_product("columns", executor.concurrency(), kPanel<Real>, longest));
      executor.parallel_for(experts(), [&](Index e, Index worker) noexcept {
        Real* const own = columns.data() + worker * kPanel<Real> * longest;
        draw_blocks(seed, e, own, first(e), [&](Index position) noexcept {
          return Place{position % kPanel<Real> / kColumns, hidden_of(position), hidden()};
        });
        draw_blocks(seed, e, own, second(e), [&](Index position) noexcept {
          return Place{kParts, position, output()};
        });
      });
    } else {
      executor.parallel_for(experts(), [&](Index e, Index) noexcept {
        for (Index part = 0; part < kParts; ++part) draw(seed, part, e, first_view(e, part));
        draw(seed, kParts, e, second_view(e));
      });
    }
  }

  /// Of a block storage only the biases: rounded weights have no element to point at.
  template <class Visitor>
  void visit_parameters(TwoLayerParameters<Layout, Real>* gradients, Visitor&& f, Index first_id) {
    check(gradients);
    for (Index e = 0; e < experts(); ++e) {
      for (Index m = 0; m <= kParts; ++m) {
        for (const bool bias : {false, true}) {
          if (bias ? !has_bias() : !DenseStorage<Storage>) continue;
          const ParameterName name = name_of(first_id + e, m, bias);
          f(Parameter<Real>{name.c_str(), view_of(e, m, bias),
                            gradients == nullptr ? ParameterView<Real>{} : gradients->view_of(e, m, bias)});
        }
      }
    }
  }

  /// f(name, std::byte* data, bytes) for the blocks of each layer; nothing of a dense storage.
  template <class Visitor>
  void visit_packed(Visitor&& f) {
    if constexpr (BlockStorage<Storage>) {
      const auto show = [&](const char* name, Buffer<Element>& blocks) {
        f(ParameterName(name, ".", StorageTraits<Storage>::kName).c_str(),
          reinterpret_cast<std::byte*>(blocks.data()), blocks.size() * Index{sizeof(Element)});
      };
      show(Layout::kFirstStorage, first_);
      show(Layout::kSecondStorage, second_);
    }
  }

  template <class Visitor>
  void visit_storage(TwoLayerParameters<Layout, Real>* gradients, Visitor&& f) {
    check(gradients);
    using Own = TwoLayerParameters<Layout, Real>;
    const auto show = [&](const char* name, const char* kind, Buffer<Real>& values,
                          Buffer<Real> Own::*of_gradients) {
      f(ParameterName(name, kind).c_str(), values.data(),
        gradients == nullptr ? nullptr : (gradients->*of_gradients).data(), values.size());
    };
    if constexpr (DenseStorage<Storage>) {
      show(Layout::kFirstStorage, "", first_, &Own::first_);
      show(Layout::kSecondStorage, "", second_, &Own::second_);
    }
    if (!has_bias()) return;
    show(Layout::kFirstStorage, ".bias", first_bias_, &Own::first_bias_);
    show(Layout::kSecondStorage, ".bias", second_bias_, &Own::second_bias_);
  }

 private:
  template <class, class>
  friend class TwoLayerParameters;

  static TwoLayerOptions checked(TwoLayerOptions options) {
    require_range("experts", options.experts, 1, (std::numeric_limits<ExpertId>::max)());
    require_range("width", options.width, 1, kMostInputs<Storage>);
    require_range("hidden", options.hidden, 1, kMostInputs<Storage>);
    require_range("output", options.output, 0, PTRDIFF_MAX);
    if (options.output == 0) options.output = options.width;
    // Room to round up to whole panels and to count bytes of both parts.
    constexpr Index kMargin = 4 * kPanel<Real> * kPanel<Real> * Index{sizeof(Real)};
    checked_product("experts x width x hidden", options.experts, options.width, options.hidden, kMargin);
    checked_product("experts x output x hidden", options.experts, options.output, options.hidden, kMargin);
    return options;
  }

  // Not part of the visits, which are compiled once for each visitor: matrix m of an expert, of which kParts
  // is the second layer's, or its bias.
  static ParameterName name_of(Index id, Index m, bool bias) noexcept {
    return ParameterName("experts.", id, ".", m < kParts ? Layout::kPart[m] : Layout::kSecond,
                         bias ? ".bias" : ".weight");
  }
  ParameterView<Real> view_of(Index e, Index m, bool bias) noexcept {
    if (bias) return m < kParts ? first_bias_view(e, m) : second_bias_view(e);
    if constexpr (DenseStorage<Storage>) {
      return m < kParts ? first_view(e, m) : second_view(e);
    } else {
      return {};
    }
  }

  /// Hidden column at `position` of the first layer.
  static Index hidden_of(Index position) noexcept {
    return position / kPanel<Real> * kColumns + position % kColumns;
  }

  template <class View>
  auto* first_column(const View* part, Index position) const noexcept {
    const Index column = hidden_of(position);
    return column < hidden() ? part[position % kPanel<Real> / kColumns].row(column) : nullptr;
  }

  static void pack_part(const ConstMatrixView<Real>& from, Index part, const PackedView<Real>& to) noexcept {
    if constexpr (kParts == 1) {
      pack_plain<Real>(from, to);
    } else {
      pack_half<Real>(from, part, to);
    }
  }
  static void unpack_part(const PackedView<const Real>& from, Index part,
                          const MatrixView<Real>& to) noexcept {
    if constexpr (kParts == 1) {
      unpack_plain(from, to);
    } else {
      unpack_half(from, part, to);
    }
  }

  template <class T, class Self>
  static TwoLayerWeights<T> weights_at(Self& self) noexcept {
    const Index experts = self.experts(), first = self.first_size(), second = self.second_size();
    const auto at = [](auto& kind) { return kind.empty() ? nullptr : kind.data(); };
    return {experts,
            {at(self.first_), first, self.width(), self.first_panels()},
            {at(self.second_), second, self.hidden(), self.second_panels()},
            at(self.first_bias_),
            at(self.second_bias_),
            self.bias_positions(),
            self.second_positions()};
  }

  /// The matrix takes the place of the step in the key, so that no two share a draw; routers and frames use
  /// steps below kFirstStep.
  class Draw {
   public:
    Draw(std::uint64_t seed, Index matrix, Index e, Index inputs) noexcept
        : random_(seed, static_cast<std::uint64_t>(kFirstStep + matrix), DrawStream::initialise),
          e_(static_cast<std::uint32_t>(e)),
          inputs_(inputs),
          bound_(1 / std::sqrt(static_cast<double>(inputs))) {}
    /// Of the element of output o and input i.
    Real operator()(Index o, Index i) const noexcept {
      const double u = random_.uniform(static_cast<std::uint64_t>(o * inputs_ + i), e_);
      return static_cast<Real>(bound_ * (2 * u - 1));
    }

   private:
    static constexpr Index kFirstStep = 256;
    KeyedRandom random_;
    std::uint32_t e_;
    Index inputs_;
    double bound_;
  };

  static void draw(std::uint64_t seed, Index matrix, Index e, const ParameterView<Real>& view) noexcept {
    const Draw value(seed, matrix, e, view.cols);
    for (Index o = 0; o < view.rows; ++o) {
      for (Index i = 0; i < view.cols; ++i) view(o, i) = value(o, i);
    }
  }

  /// Where a packed column belongs: output `o` of `outputs` of a matrix; none if it is padding.
  struct Place {
    Index matrix, o, outputs;
  };

  /// `columns`: room for one panel, [kPanel][view.rows].
  template <class PlaceOf>
  static void draw_blocks(std::uint64_t seed, Index e, Real* columns, const PackedView<Storage>& view,
                          PlaceOf place_of) noexcept {
    for (Index j = 0; j < view.panels; ++j) {
      const auto column = [&](Index position) noexcept -> const Real* {
        const Place place = place_of(position);
        if (place.o >= place.outputs) return nullptr;
        const Draw value(seed, place.matrix, e, view.rows);
        Real* const to = columns + position % kPanel<Real> * view.rows;
        for (Index i = 0; i < view.rows; ++i) to[i] = value(place.o, i);
        return to;
      };
      pack_panel(view, j, column);
    }
  }

  impl::Movable<TwoLayerOptions> shape_;
  Buffer<Element> first_;     // [E] x [D][first_panels]
  Buffer<Element> second_;    // [E] x [F][second_panels]
  Buffer<Real> first_bias_;   // [E, bias_positions], empty without biases
  Buffer<Real> second_bias_;  // [E, second_positions]
};

MOE_NAMESPACE_END
