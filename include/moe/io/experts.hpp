// The experts of one layer of a checkpoint, and loading them into a bank: packed while they are read, one
// expert at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/view.hpp"
#include "moe/io/checkpoint.hpp"
#include "moe/io/layout.hpp"
#include "moe/io/matrix_reader.hpp"
#include "moe/io/quantised.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/number_format.hpp"
#include "moe/storage/packed_blocks.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// What load_experts() reads from.
template <class S>
concept ExpertSource = requires(const S& s, Index e, ExpertMatrix part, MatrixView<float> m, float* b) {
  { s.experts() } -> std::convertible_to<Index>;
  { s.width() } -> std::convertible_to<Index>;
  { s.hidden() } -> std::convertible_to<Index>;
  { s.is_gated() } -> std::convertible_to<bool>;
  { s.has_bias(part) } -> std::convertible_to<bool>;
  s.read(e, part, m);
  { s.groups(e, part) } -> std::same_as<std::optional<StoredCodes>>;
  s.read_bias(e, part, b);
  s.release(e);
};

/// Any source behind virtual calls, one a matrix.
class AnyExpertSource {
 public:
  virtual ~AnyExpertSource() = default;
  virtual Index experts() const noexcept = 0;
  virtual Index width() const noexcept = 0;
  virtual Index hidden() const noexcept = 0;
  virtual bool is_gated() const noexcept = 0;
  virtual bool has_bias(ExpertMatrix part) const noexcept = 0;
  virtual void read(Index e, ExpertMatrix part, const MatrixView<float>& to) const = 0;
  virtual std::optional<StoredCodes> groups(Index e, ExpertMatrix part) const = 0;
  virtual void read_bias(Index e, ExpertMatrix part, float* to) const = 0;
  virtual void release(Index e) const noexcept = 0;
};

template <ExpertSource Source>
class ErasedExpertSource final : public AnyExpertSource {
 public:
  explicit ErasedExpertSource(Source source) : source_(std::move(source)) {}
  Index experts() const noexcept override { return source_.experts(); }
  Index width() const noexcept override { return source_.width(); }
  Index hidden() const noexcept override { return source_.hidden(); }
  bool is_gated() const noexcept override { return source_.is_gated(); }
  bool has_bias(ExpertMatrix part) const noexcept override { return source_.has_bias(part); }
  void read(Index e, ExpertMatrix part, const MatrixView<float>& to) const override {
    source_.read(e, part, to);
  }
  std::optional<StoredCodes> groups(Index e, ExpertMatrix part) const override {
    return source_.groups(e, part);
  }
  void read_bias(Index e, ExpertMatrix part, float* to) const override { source_.read_bias(e, part, to); }
  void release(Index e) const noexcept override { source_.release(e); }

 private:
  Source source_;
};

/// E experts of width D and hidden width F, as an ExpertLayout (of one layer) describes them. Refers to the
/// checkpoint, which must outlive it.
class CheckpointExperts {
 public:
  /// Finds and checks all tensors. Throws format_error naming file, tensor, expected and found; config_error
  /// for a layout without the matrices of an expert.
  CheckpointExperts(const Checkpoint& checkpoint, const ExpertLayout& layout, Index experts, Index width,
                    Index hidden)
      : checkpoint_(&checkpoint), layout_(layout), experts_(experts), width_(width), hidden_(hidden) {
    require_range("experts", experts, 1, INT32_MAX);
    const bool gated = layout.is_gated();
    for (Index p = 0; p < kParts; ++p) {
      const ExpertMatrix part = static_cast<ExpertMatrix>(p);
      const bool wanted = gated ? part <= ExpertMatrix::down : part >= ExpertMatrix::fc1;
      if (wanted != static_cast<bool>(layout.matrix[p]) || (!wanted && layout.bias[p])) {
        fail<config_error>("expert layout: expected gate, up and down, or fc1 and fc2, got ",
                           wanted ? "no " : "also ", part_name(part));
      }
      if (!wanted) continue;
      readers_.emplace_back(checkpoint, layout.matrix[p], experts, outputs(part), inputs(part));
      for (Index e = 0; e < experts && layout.bias[p]; ++e) static_cast<void>(bias(e, part));
    }
  }

  Index experts() const noexcept { return experts_; }
  Index width() const noexcept { return width_; }
  Index hidden() const noexcept { return hidden_; }
  bool is_gated() const noexcept { return layout_.is_gated(); }
  bool has_bias(ExpertMatrix part) const noexcept { return static_cast<bool>(layout_.bias_of(part)); }
  Index outputs(ExpertMatrix part) const noexcept {
    return part == ExpertMatrix::down || part == ExpertMatrix::fc2 ? width_ : hidden_;
  }
  Index inputs(ExpertMatrix part) const noexcept {
    return part == ExpertMatrix::down || part == ExpertMatrix::fc2 ? hidden_ : width_;
  }
  const MatrixReader& reader(ExpertMatrix part) const {
    const Index first = static_cast<Index>(is_gated() ? ExpertMatrix::gate : ExpertMatrix::fc1);
    const Index i = static_cast<Index>(part) - first;
    require_range("part of an expert", i, 0, static_cast<Index>(readers_.size()) - 1);
    return readers_[static_cast<std::size_t>(i)];
  }

  /// to [F, D], or [D, F] of down and fc2.
  void read(Index e, ExpertMatrix part, const MatrixView<float>& to) const { reader(part).read(e, to); }

  /// Codes and scales of expert e, if they can be repacked without loss.
  std::optional<StoredCodes> groups(Index e, ExpertMatrix part) const {
    require_range("expert", e, 0, experts_ - 1);
    return reader(part).groups(e);
  }

  /// to[F], or to[D] of down and fc2. Throws config_error for a part without bias.
  void read_bias(Index e, ExpertMatrix part, float* to) const {
    const BiasLayout& layout = layout_.bias_of(part);
    if (!layout) fail<config_error>("bias of ", part_name(part), ": expected a layout with one, got none");
    require_range("expert", e, 0, experts_ - 1);
    const Tensor& t = bias(e, part);
    const impl::OutputChoice choice(layout.outputs, outputs(part));
    const Index row = t.shape.rank == 1 ? 0 : e * choice.stored;
    for (Index o = 0; o < outputs(part); ++o) decode_floats(t.dtype, t.data, row + choice(o), 1, to + o);
  }

  /// Lets go of the file's pages behind expert e.
  void release(Index e) const noexcept {
    for (const MatrixReader& r : readers_) r.release(e);
  }

 private:
  const Tensor& bias(Index e, ExpertMatrix part) const {
    const BiasLayout& layout = layout_.bias_of(part);
    const Index stored = impl::OutputChoice(layout.outputs, outputs(part)).stored;
    const bool each = layout.name.find("{expert}") != std::string::npos;
    const Tensor& t = checkpoint_->at(each ? with_number(layout.name, "{expert}", e) : layout.name);
    require_plain(t);
    require_tensor_shape(t, each ? Shape(stored) : Shape(experts_, stored));
    return t;
  }

  const Checkpoint* checkpoint_;
  ExpertLayout layout_;
  Index experts_, width_, hidden_;
  std::vector<MatrixReader> readers_;  // gate, up, down or fc1, fc2
};

namespace impl {

/// A bank of gated experts.
template <class Bank>
concept GatedBank = requires(Bank& b, ConstMatrixView<typename Bank::Real> m) {
  b.load(Index{}, m, m, m);
};

template <class Bank, class Source>
void require_bank(const Bank& bank, const Source& source) {
  const auto check = [](const char* what, Index of_bank, Index of_source) {
    if (of_bank == of_source) return;
    fail<config_error>("experts: expected a bank of ", of_source, " ", what, " for this checkpoint, got ",
                       of_bank);
  };
  check("experts", bank.experts(), source.experts());
  check("columns of width", bank.width(), source.width());
  check("hidden columns", bank.hidden(), source.hidden());
  if (GatedBank<Bank> != source.is_gated()) {
    fail<config_error>("experts: expected a bank of ",
                       source.is_gated() ? "gated experts" : "ungated experts",
                       " for this checkpoint, got the other kind");
  }
  for (Index p = 0; p < kParts; ++p) {
    const ExpertMatrix part = static_cast<ExpertMatrix>(p);
    const bool wanted = source.is_gated() ? part <= ExpertMatrix::down : part >= ExpertMatrix::fc1;
    if (wanted && source.has_bias(part) && !bank.has_bias()) {
      fail<config_error>("experts: expected a bank with biases for this checkpoint's ", part_name(part),
                         ", got one without");
    }
  }
}

/// The part that a bank's parameter "experts.<e>.<matrix>.bias" belongs to, and e; false for another name.
inline bool parse_bias_name(const char* name, Index& e, ExpertMatrix& part) noexcept {
  constexpr const char* kMatrix[kParts] = {"gate_proj.bias", "up_proj.bias", "down_proj.bias", "fc1.bias",
                                           "fc2.bias"};
  long long number = 0;
  int length = 0;
  if (std::sscanf(name, "experts.%lld.%n", &number, &length) != 1 || length == 0) return false;
  for (Index p = 0; p < kParts; ++p) {
    if (std::strcmp(name + length, kMatrix[p]) == 0) {
      e = static_cast<Index>(number);
      part = static_cast<ExpertMatrix>(p);
      return true;
    }
  }
  return false;
}

}  // namespace impl

namespace impl {

/// CodeGroups with scales of the type that a bank stores.
template <class Scale>
struct TypedGroups {
  CodeGroups groups;
  int code(Index o, Index i) const noexcept { return groups.code(o, i); }
  Scale scale(Index o, Index group) const noexcept { return {groups.scale_bits(o, group)}; }
};

/// CodeChannels, whose scale is the same in all groups.
struct TypedChannels {
  CodeChannels channels;
  int code(Index o, Index i) const noexcept { return channels.code(o, i); }
  float scale(Index o, Index) const noexcept { return channels.scale(o); }
};

template <class Scale>
void require_finite_scales(const TypedGroups<Scale>& matrix, const char* part) {
  for (Index o = 0; o < matrix.groups.out; ++o) {
    for (Index g = 0; g < ceil_div(matrix.groups.in, CodeGroups::kGroup); ++g) {
      if (is_finite(matrix.scale(o, g).to_float())) continue;
      fail<numeric_error>(part, ": expected finite scales, got another in row ", o, ", group ", g);
    }
  }
}
inline void require_finite_scales(const TypedChannels& matrix, const char* part) {
  constexpr double kLargest = kLargestWeight<Int8Channels> / 127;
  for (Index o = 0; o < matrix.channels.out; ++o) {
    const double scale = static_cast<double>(matrix.scale(o, 0));
    if (std::abs(scale) <= kLargest) continue;
    fail<numeric_error>(part, ": expected scales of magnitude up to ", kLargest, ", got ", scale, " in row ",
                        o);
  }
}

/// What a storage repacks, typed: matrix = codes, if they are of the storage's kind.
template <class Storage>
struct RepackedMatrix {
  using Scale = GroupScale<Storage>;
  using type = TypedGroups<Scale>;
  static bool take(const StoredCodes& codes, type& matrix) noexcept {
    constexpr DType kScale = std::is_same_v<Scale, BFloat16> ? DType::BF16 : DType::F16;
    const CodeGroups* const groups = std::get_if<CodeGroups>(&codes);
    if (groups == nullptr || groups->bits != StorageBlock<Storage>::kBits || groups->scale_dtype != kScale) {
      return false;
    }
    matrix.groups = *groups;
    return true;
  }
};
template <>
struct RepackedMatrix<Int8Channels> {
  using type = TypedChannels;
  static bool take(const StoredCodes& codes, type& matrix) noexcept {
    const CodeChannels* const channels = std::get_if<CodeChannels>(&codes);
    if (channels != nullptr) matrix.channels = *channels;
    return channels != nullptr;
  }
};

template <class Bank>
constexpr ExpertMatrix part_of_matrix(Index m) noexcept {
  return static_cast<ExpertMatrix>(
      static_cast<Index>(GatedBank<Bank> ? ExpertMatrix::gate : ExpertMatrix::fc1) + m);
}
template <class Bank>
inline constexpr Index kMatrices = GatedBank<Bank> ? 3 : 2;

/// A matrix of blocks, or of floats that are rounded to blocks.
template <class Storage>
struct BlockMatrix {
  CodeBlocks blocks{};
  ConstMatrixView<float> floats{};

  void read(Index o, Index block, SuperColumn& to) const noexcept {
    if (blocks.decode != nullptr) return blocks.read(o, block, to);
    float x[kSuperRows] = {};
    const Index first = block * kSuperRows, end = (std::min)(floats.cols, first + kSuperRows);
    std::copy(floats.row(o) + first, floats.row(o) + end, x);
    encode_column(x, to, Storage{});
  }
};

template <class Storage>
void require_finite_scales(const BlockMatrix<Storage>& matrix, const char* part) {
  SuperColumn column{};
  for (Index o = 0; o < matrix.blocks.out; ++o) {
    for (Index b = 0; b < matrix.blocks.in / kSuperRows; ++b) {
      matrix.read(o, b, column);
      if (is_finite(column.scale.to_float()) && is_finite(column.offset.to_float())) continue;
      fail<numeric_error>(part, ": expected finite scales, got another in row ", o, ", block ", b);
    }
  }
}

template <class Bank, class Matrix>
void load_groups(Bank& bank, Index e, const Matrix* matrix) {
  if constexpr (GatedBank<Bank>) {
    bank.load_groups(e, matrix[0], matrix[1], matrix[2]);
  } else {
    bank.load_groups(e, matrix[0], matrix[1]);
  }
}

/// Repacks expert e if one of its matrices is of blocks that the storage holds; GGUF files mix them, and the
/// others go through float. As repack_expert().
template <class Bank, class CodesOf, class Read>
bool repack_blocks(Bank& bank, Index e, const CodesOf& codes_of, const Read& read) {
  using Storage = typename Bank::StorageType;
  constexpr int kBits = StorageBlock<Storage>::Group::kBits;
  BlockMatrix<Storage> matrix[kMatrices<Bank>];
  Buffer<float> floats[kMatrices<Bank>];
  bool any = false;
  for (Index m = 0; m < kMatrices<Bank>; ++m) {
    const std::optional<StoredCodes> found = codes_of(part_of_matrix<Bank>(m));
    const CodeBlocks* const blocks = found ? std::get_if<CodeBlocks>(&*found) : nullptr;
    if (blocks == nullptr || blocks->bits != kBits) continue;
    matrix[m].blocks = *blocks;
    any = true;
  }
  for (Index m = 0; any && m < kMatrices<Bank>; ++m) {
    const char* const name = part_name(part_of_matrix<Bank>(m));
    if (matrix[m].blocks.decode != nullptr) {
      require_finite_scales(matrix[m], name);
      continue;
    }
    const bool second = m == kMatrices<Bank> - 1;
    const Index out = second ? bank.width() : bank.hidden(), in = second ? bank.hidden() : bank.width();
    const MatrixView<float> view(floats[m].resize(checked_product("expert", out, in)), out, in);
    read(part_of_matrix<Bank>(m), view);
    matrix[m].floats = view;
    require_roundable<Storage>(name, matrix[m].floats);
  }
  if (any) load_groups(bank, e, matrix);
  return any;
}

/// Repacks expert e, whose matrices are codes_of(part), optional StoredCodes, and read(part, floats); false,
/// with nothing written, where the bank's storage is another than the file's.
template <class Bank, class CodesOf, class Read>
bool repack_expert(Bank& bank, Index e, const CodesOf& codes_of, const Read& read) {
  using Storage = typename Bank::StorageType;
  if constexpr (SuperStorage<Storage>) {
    return repack_blocks(bank, e, codes_of, read);
  } else if constexpr (!GroupStorage<Storage>) {
    return false;
  } else {
    using Repacked = RepackedMatrix<Storage>;
    typename Repacked::type matrix[kMatrices<Bank>];
    for (Index m = 0; m < kMatrices<Bank>; ++m) {
      const std::optional<StoredCodes> found = codes_of(part_of_matrix<Bank>(m));
      if (!found || !Repacked::take(*found, matrix[m])) return false;
      require_finite_scales(matrix[m], part_name(part_of_matrix<Bank>(m)));
    }
    load_groups(bank, e, matrix);
    return true;
  }
}

/// One expert in float on its way into a bank.
template <class Bank>
class FloatExpert {
 public:
  using Real = typename Bank::Real;

  template <class Source>
  void load(Bank& bank, const Source& source, Index e) {
    const Index width = source.width(), hidden = source.hidden();
    const Index size = checked_product("expert", width, hidden);
    ConstMatrixView<Real> matrix[kMatrices<Bank>];
    for (Index m = 0; m < kMatrices<Bank>; ++m) {
      const bool second = m == kMatrices<Bank> - 1;
      const Index out = second ? width : hidden, in = second ? hidden : width;
      float* const values = values_[m].resize(size);
      source.read(e, part_of_matrix<Bank>(m), MatrixView<float>(values, out, in));
      source.release(e);  // one matrix of the file in memory, not three
      if constexpr (std::is_same_v<Real, float>) {
        matrix[m] = ConstMatrixView<float>(values, out, in);
      } else {
        Real* const wide = widened_[m].resize(size);
        for (Index i = 0; i < size; ++i) wide[i] = static_cast<Real>(values[i]);
        matrix[m] = ConstMatrixView<Real>(wide, out, in);
      }
    }
    if constexpr (GatedBank<Bank>) {
      bank.load(e, matrix[0], matrix[1], matrix[2]);
    } else {
      bank.load(e, matrix[0], matrix[1]);
    }
  }

 private:
  Buffer<float> values_[kMatrices<Bank>];
  Buffer<Real> widened_[kMatrices<Bank>];  // of double banks
};

}  // namespace impl

/// Copies every expert of `source` into `bank` (Glu or Mlp of the same extents; throws config_error if not).
/// Where the bank's storage is the file's (Int8Groups<Float16>: Q8_0; Int4Groups<Float16>: Q4_0;
/// Int4Groups<scale's type>: int4 groups of 32; Int8Channels: int8 with one scale a row or one for all;
/// Q4K, Q6K: the same, also where some of an expert's matrices are others), codes and scales are copied as
/// they are; else weights go through float and block storages round them (numeric_error where they cannot).
/// Parts without a bias in the source get zeros where the bank has one. Memory: one expert in float besides
/// the bank. progress(done, total), noexcept, after each expert.
template <class Bank, ExpertSource Source, class Progress>
void load_experts(Bank& bank, const Source& source, Progress&& progress) {
  static_assert(noexcept(progress(Index{}, Index{})), "moe: the progress callback must be noexcept");
  using Real = typename Bank::Real;
  impl::require_bank(bank, source);
  impl::FloatExpert<Bank> expert;
  for (Index e = 0; e < source.experts(); ++e) {
    try {
      const auto codes_of = [&](ExpertMatrix part) { return source.groups(e, part); };
      const auto read = [&](ExpertMatrix part, const MatrixView<float>& to) { source.read(e, part, to); };
      if (!impl::repack_expert(bank, e, codes_of, read)) expert.load(bank, source, e);
    } catch (const numeric_error& error) {  // of a block storage, which knows the place but not the expert
      fail<numeric_error>("expert ", e, " of the checkpoint: ", error.what());
    }
    source.release(e);
    progress(e + 1, source.experts());
  }
  if (!bank.has_bias()) return;
  Buffer<float> bias((std::max)(source.width(), source.hidden()));
  bank.visit_parameters(nullptr, [&](const auto& p) {
    Index e = 0;
    ExpertMatrix part{};
    if (!impl::parse_bias_name(p.name, e, part)) return;
    bias.fill(0);
    if (source.has_bias(part)) source.read_bias(e, part, bias.data());
    for (Index o = 0; o < p.value.rows; ++o) p.value(o, 0) = static_cast<Real>(bias[o]);
  });
}

template <class Bank, ExpertSource Source>
void load_experts(Bank& bank, const Source& source) {
  load_experts(bank, source, [](Index, Index) noexcept {});
}

}  // namespace io
MOE_NAMESPACE_END
