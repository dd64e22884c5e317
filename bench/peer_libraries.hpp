// The products of three libraries for PeerLoop, each with its weights as suits it best.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "moe/core/buffer.hpp"
#include "reference.hpp"

#if defined(MOE_BENCH_OPENBLAS)
#include <cblas.h>
#endif
#if defined(MOE_BENCH_ONEDNN)
#include <dnnl.hpp>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace bench {

/// Up to so many rows Eigen and OpenBLAS are faster with a product with a vector for each.
inline constexpr Index kVectorRows = 4;

/// gate over up, [2F, D], and down [D, F] of every expert, or their transposes, in float. On huge pages, as
/// the library's own weights are.
class DenseWeights {
 public:
  DenseWeights(const Shape& shape, bool transposed)
      : shape_(shape),
        transposed_(transposed),
        gate_up_(shape.E * 2 * shape.F * shape.D),
        down_(shape.E * shape.D * shape.F) {}

  void add(const ExpertWeights& expert) {
    std::vector<double> both = expert.gate;
    both.insert(both.end(), expert.up.begin(), expert.up.end());
    copy(both, 2 * shape_.F, shape_.D, gate_up_.data() + count_ * 2 * shape_.F * shape_.D);
    copy(expert.down, shape_.D, shape_.F, down_.data() + count_ * shape_.D * shape_.F);
    ++count_;
  }
  const float* gate_up(Index e) const { return gate_up_.data() + e * 2 * shape_.F * shape_.D; }
  const float* down(Index e) const { return down_.data() + e * shape_.D * shape_.F; }

 private:
  void copy(const std::vector<double>& from, Index rows, Index cols, float* to) const {
    for (Index i = 0; i < rows; ++i) {
      for (Index j = 0; j < cols; ++j) {
        to[transposed_ ? j * rows + i : i * cols + j] =
            static_cast<float>(from[static_cast<std::size_t>(i * cols + j)]);
      }
    }
  }

  Shape shape_;
  bool transposed_;
  moe::Buffer<float> gate_up_, down_;
  Index count_ = 0;
};

class EigenLibrary {
 public:
  static constexpr const char* kName = "eigen_loop";
  static constexpr RowFormat kRows = RowFormat::exact;
  static constexpr Instruction kInstruction = Instruction::fma_float;

  explicit EigenLibrary(const Shape& shape) : shape_(shape), weights_(shape, false) {}
  void add(const ExpertWeights& expert) { weights_.add(expert); }
  void set_threads(Index n) { Eigen::setNbThreads(static_cast<int>(n)); }
  void gate_up(Index e, const float* x, Index m, float* out, Index) const {
    multiply(x, m, shape_.D, weights_.gate_up(e), 2 * shape_.F, out);
  }
  void down(Index e, const float* h, Index m, float* z, Index) const {
    multiply(h, m, shape_.F, weights_.down(e), shape_.D, z);
  }

 private:
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  static void multiply(const float* x, Index m, Index in, const float* w, Index out, float* y) {
    const Eigen::Map<const Matrix> weights(w, out, in);
    if (m > kVectorRows) {
      Eigen::Map<Matrix>(y, m, out).noalias() = Eigen::Map<const Matrix>(x, m, in) * weights.transpose();
      return;
    }
    for (Index i = 0; i < m; ++i) {
      Eigen::Map<Eigen::VectorXf>(y + i * out, out).noalias() =
          weights * Eigen::Map<const Eigen::VectorXf>(x + i * in, in);
    }
  }

  Shape shape_;
  DenseWeights weights_;
};

#if defined(MOE_BENCH_OPENBLAS)

/// From transposed weights [in, out]: faster than from [out, in] with few rows, and no slower with many.
class OpenBlasLibrary {
 public:
  static constexpr const char* kName = "openblas_loop";
  static constexpr RowFormat kRows = RowFormat::exact;
  static constexpr Instruction kInstruction = Instruction::fma_float;

  explicit OpenBlasLibrary(const Shape& shape) : shape_(shape), weights_(shape, true) {}
  void add(const ExpertWeights& expert) { weights_.add(expert); }
  void set_threads(Index n) {
    if (n != std::exchange(threads_, n)) openblas_set_num_threads(static_cast<int>(n));
  }
  void gate_up(Index e, const float* x, Index m, float* out, Index) const {
    multiply(x, m, shape_.D, weights_.gate_up(e), 2 * shape_.F, out);
  }
  void down(Index e, const float* h, Index m, float* z, Index) const {
    multiply(h, m, shape_.F, weights_.down(e), shape_.D, z);
  }

 private:
  static void multiply(const float* x, Index m, Index in, const float* w, Index out, float* y) {
    const auto n = static_cast<blasint>(out), k = static_cast<blasint>(in), rows = static_cast<blasint>(m);
    if (m > kVectorRows) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, n, k, 1, x, k, w, n, 0, y, n);
      return;
    }
    for (Index i = 0; i < m; ++i) {
      cblas_sgemv(CblasRowMajor, CblasTrans, k, n, 1, w, n, x + i * in, 1, 0, y + i * out, 1);
    }
  }

  inline static Index threads_ = 0;  // the library's own setting is global
  Shape shape_;
  DenseWeights weights_;
};

#endif
#if defined(MOE_BENCH_ONEDNN)

/// Weights packed once in the layout that the library's inner product asks for, which is the same for every
/// number of rows; one primitive for each number of rows and of threads (which it keeps to for good), kept.
template <bool kBfloat16>
class OneDnnLibrary {
 public:
  static constexpr const char* kName = "onednn";
  static constexpr RowFormat kRows = kBfloat16 ? RowFormat::bfloat16 : RowFormat::exact;
  static constexpr Instruction kInstruction = kBfloat16 ? Instruction::dot_bfloat16 : Instruction::fma_float;

  explicit OneDnnLibrary(const Shape& shape)
      : gate_up_{this, shape.E, shape.D, 2 * shape.F, {}, {}, {}}, down_{this, shape.E, shape.F, shape.D,
                                                                         {},   {},      {}} {}

  void add(const ExpertWeights& expert) {
    std::vector<float> both(expert.gate.begin(), expert.gate.end());
    both.insert(both.end(), expert.up.begin(), expert.up.end());
    gate_up_.pack(std::move(both));
    down_.pack({expert.down.begin(), expert.down.end()});
  }
  void set_threads(Index n) {
    threads_ = n;
#if defined(_OPENMP)
    omp_set_num_threads(static_cast<int>(n));
#endif
  }
  void gate_up(Index e, const float* x, Index m, float* out, Index worker) {
    gate_up_.multiply(e, x, m, out, scratch_[worker]);
  }
  void down(Index e, const float* h, Index m, float* z, Index worker) {
    down_.multiply(e, h, m, z, scratch_[worker]);
  }

 private:
  using Memory = dnnl::memory;
  static constexpr auto kType = kBfloat16 ? Memory::data_type::bf16 : Memory::data_type::f32;

  /// Of one worker.
  struct Scratch {
    std::vector<std::byte> library;
    std::vector<std::uint16_t> rows;
  };

  struct Product {
    dnnl::inner_product_forward::primitive_desc description;
    dnnl::inner_product_forward primitive;
  };

  struct Projection {
    OneDnnLibrary* library;
    Index experts, in, out;
    moe::Buffer<std::byte> packed_weights;  // of all experts, on huge pages
    std::vector<Memory> weights;
    std::map<std::pair<Index, Index>, Product> products;  // by rows and threads

    Product& product(Index m) {
      const std::lock_guard<std::mutex> lock(library->mutex_);
      const std::pair key(m, library->threads_);
      const auto found = products.find(key);
      if (found != products.end()) return found->second;
      using Tag = Memory::format_tag;
      const Memory::desc packed =
          weights.empty() ? Memory::desc({out, in}, kType, Tag::any) : weights[0].get_desc();
      dnnl::primitive_attr attributes;
      attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
      const dnnl::inner_product_forward::primitive_desc description(
          dnnl::inner_product_forward::desc(dnnl::prop_kind::forward_inference,
                                            Memory::desc({m, in}, kType, Tag::ab), packed,
                                            Memory::desc({m, out}, Memory::data_type::f32, Tag::ab)),
          attributes, library->engine_);
      return products.emplace(key, Product{description, dnnl::inner_product_forward(description)})
          .first->second;
    }

    void pack(std::vector<float> dense) {
      using Tag = Memory::format_tag;
      const Memory::desc packed = product(64).description.weights_desc();
      Memory from(Memory::desc({out, in}, Memory::data_type::f32, Tag::ab), library->engine_, dense.data());
      const auto bytes = static_cast<Index>(packed.get_size());
      if (weights.empty()) packed_weights.assign(experts * bytes, std::byte{});
      Memory to(packed, library->engine_, packed_weights.data() + static_cast<Index>(weights.size()) * bytes);
      dnnl::stream stream(library->engine_);
      dnnl::reorder(from, to).execute(stream, from, to);
      stream.wait();
      weights.push_back(std::move(to));
    }

    void multiply(Index e, const float* x, Index m, float* y, Scratch& scratch) {
      Product& p = product(m);
      const auto& engine = library->engine_;
      scratch.library.resize(std::max(scratch.library.size(), p.description.scratchpad_desc().get_size()));
      dnnl::stream stream(engine);
      Memory rows(p.description.src_desc(), engine, const_cast<float*>(x));
      if constexpr (kBfloat16) {
        scratch.rows.resize(std::max(scratch.rows.size(), static_cast<std::size_t>(m * in)));
        rows.set_data_handle(scratch.rows.data());
        to_bfloat16(x, m * in, scratch.rows.data());
      }
      p.primitive.execute(
          stream,
          {{DNNL_ARG_SRC, rows},
           {DNNL_ARG_WEIGHTS, weights[static_cast<std::size_t>(e)]},
           {DNNL_ARG_DST, Memory(p.description.dst_desc(), engine, y)},
           {DNNL_ARG_SCRATCHPAD, Memory(p.description.scratchpad_desc(), engine, scratch.library.data())}});
      stream.wait();
    }
  };

  /// Round to nearest even; a plain loop that compilers vectorise.
  static void to_bfloat16(const float* from, Index n, std::uint16_t* to) {
    for (Index i = 0; i < n; ++i) {
      std::uint32_t bits;
      std::memcpy(&bits, from + i, sizeof bits);
      to[i] = static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::mutex mutex_;
  Index threads_ = 1;
  Projection gate_up_, down_;
  std::array<Scratch, 64> scratch_;
};

#endif

}  // namespace bench
