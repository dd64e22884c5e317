// A small causal transformer of bytes whose blocks are the program's own: attention in Eigen, feed-forward by
// a layer of the library. Which rows a block works on is up to the depth layers around it.
//   h = table[byte]                          [T, D]
//   h = piece_i(h)                           pieces add what their blocks return, times a weight
//   P(next byte) = softmax(norm(h) W^T)      [T, 256]; norm(x) = x / rms(x)
// Products run 64 rows or columns at a time on the executor: fixed blocks, so that the numbers do not depend
// on how many threads there are.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "moe/depth/layer_block.hpp"
#include "moe/depth/row_block.hpp"
#include "moe/moe.hpp"
#include "text.hpp"

namespace example {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowsMap = Eigen::Map<const Rows>;

inline RowsMap map(const moe::ConstMatrixView<float>& view) {
  return {view.data, view.rows, view.cols};
}

/// Uniform with the variance of a layer of so many inputs.
inline Rows random_matrix(Index rows, Index cols, std::uint64_t seed, float size) {
  Rows m(rows, cols);
  const moe::KeyedRandom random(seed, 0, moe::DrawStream::user);
  for (Index i = 0; i < m.size(); ++i) {
    m.data()[i] = size * static_cast<float>(random.normal(static_cast<std::uint64_t>(i), 2));
  }
  return m;
}

/// f(first, count) for every 64 of n, on the executor.
template <class X, class F>
void for_blocks(Index n, X& executor, const F& f) {
  constexpr Index kBlock = 64;
  executor.parallel_for(moe::ceil_div(n, kBlock), [&](Index block, Index) noexcept {
    f(block * kBlock, std::min(kBlock, n - block * kBlock));
  });
}
/// y = x W^T.
template <class In, class X>
void multiply(const In& x, const Rows& w, Rows& y, X& executor) {
  y.resize(x.rows(), w.rows());
  for_blocks(x.rows(), executor, [&](Index first, Index n) noexcept {
    y.middleRows(first, n).noalias() = x.middleRows(first, n) * w.transpose();
  });
}
/// dx = dy W.
template <class X>
void multiply_back(const Rows& dy, const Rows& w, Rows& dx, X& executor) {
  dx.resize(dy.rows(), w.cols());
  for_blocks(dy.rows(), executor, [&](Index first, Index n) noexcept {
    dx.middleRows(first, n).noalias() = dy.middleRows(first, n) * w;
  });
}
/// dW += dy^T x.
template <class In, class X>
void add_weight_gradient(const Rows& dy, const In& x, Rows& dw, X& executor) {
  for_blocks(dw.rows(), executor, [&](Index first, Index n) noexcept {
    dw.middleRows(first, n).noalias() += dy.middleCols(first, n).transpose() * x;
  });
}
/// y = x * scale, scale = 1 / sqrt(mean of x^2).
template <class In, class X>
void normalise(const In& x, Rows& y, Eigen::VectorXf& scale, X& executor) {
  y.resize(x.rows(), x.cols());
  scale.resize(x.rows());
  for_blocks(x.rows(), executor, [&](Index first, Index n) noexcept {
    for (Index t = first; t < first + n; ++t) {
      scale[t] = 1 / std::sqrt(x.row(t).squaredNorm() / static_cast<float>(x.cols()) + 1e-6f);
      y.row(t) = scale[t] * x.row(t);
    }
  });
}
/// dx += scale * (dy - y * mean of y dy).
template <class X>
void normalise_back(const Rows& y, const Eigen::VectorXf& scale, const Rows& dy, Rows& dx, X& executor) {
  for_blocks(y.rows(), executor, [&](Index first, Index n) noexcept {
    for (Index t = first; t < first + n; ++t) {
      const float mean = y.row(t).dot(dy.row(t)) / static_cast<float>(y.cols());
      dx.row(t) += scale[t] * (dy.row(t) - mean * y.row(t));
    }
  });
}

/// f(x) = a + ffn(norm(x + a)), a = attention(norm(x)): causal, in heads, over the rows of the set that are
/// of one segment, and biased by how far apart they stand in it (ALiBi, 2108.12409).
template <moe::TokenLayer Ffn>
class TransformerBlock {
  using FfnBlock = moe::LayerBlock<Ffn>;

 public:
  using Real = float;
  struct Tape {
    Rows n, qkv, mixed, n2;         // [n, D], [n, 3 D], [n, D], [n, D]
    Eigen::VectorXf scale, scale2;  // [n]
    std::vector<Rows> share;        // by segment and head: who looks where
    typename FfnBlock::Tape ffn;
  };
  struct Gradients {
    Rows qkv, out;
    typename FfnBlock::Gradients ffn;
  };

  TransformerBlock(Index heads, Ffn ffn, std::uint64_t seed)
      : width_(ffn.width()), heads_(heads), ffn_(std::move(ffn)) {
    const float size = 1 / std::sqrt(static_cast<float>(width_));
    qkv_ = random_matrix(3 * width_, width_, seed, size);
    out_ = random_matrix(width_, width_, seed + 1, 0.5f * size);
  }

  Index width() const noexcept { return width_; }
  static constexpr moe::Coupling coupling(bool) noexcept { return moe::Coupling::per_segment; }

  void measure(moe::Arena& arena, const moe::CallShape& shape, Index concurrency) const {
    ffn_.measure(arena, shape, concurrency);
  }
  void measure_backward(moe::Arena& arena, const moe::CallShape& shape, Index concurrency) const {
    ffn_.measure_backward(arena, shape, concurrency);
  }

  template <moe::Executor X>
  void forward(const moe::BlockCall& call, const moe::ConstMatrixView<float>& x,
               const moe::MatrixView<float>& y, Tape* tape, moe::Arena& arena, X& executor) const {
    Tape scratch;  // in inference, where nobody keeps what a backward reads
    Tape& t = tape != nullptr ? *tape : scratch;
    normalise(map(x), t.n, t.scale, executor);
    multiply(t.n, qkv_, t.qkv, executor);
    t.mixed.resize(x.rows, width_);
    t.share.resize(static_cast<std::size_t>(call.segments * heads_));
    executor.parallel_for(call.segments * heads_, [&](Index i, Index) noexcept {
      const Index first = call.segment_offsets[i / heads_], n = call.segment_offsets[i / heads_ + 1] - first;
      const Index head = i % heads_, d = width_ / heads_;
      const auto q = t.qkv.block(first, head * d, n, d), k = t.qkv.block(first, width_ + head * d, n, d),
                 v = t.qkv.block(first, 2 * width_ + head * d, n, d);
      Rows& share = t.share[static_cast<std::size_t>(i)];
      share.noalias() = q * k.transpose() / std::sqrt(static_cast<float>(d));
      for (Index a = 0; a < n; ++a) {  // rows ascend, so those up to a are the past
        for (Index b = 0; b <= a; ++b) {
          share(a, b) -=
              slope(head) * static_cast<float>(call.position[first + a] - call.position[first + b]);
        }
        auto past = share.row(a).head(a + 1).array();
        past = (past - past.maxCoeff()).exp();
        past /= past.sum();
        share.row(a).tail(n - a - 1).setZero();
      }
      t.mixed.block(first, head * d, n, d).noalias() = share * v;
    });
    Rows a;
    multiply(t.mixed, out_, a, executor);
    const Rows h = map(x) + a;
    normalise(h, t.n2, t.scale2, executor);
    ffn_.forward(call, moe::ConstMatrixView<float>(t.n2), y, tape == nullptr ? nullptr : &t.ffn, arena,
                 executor);
    Eigen::Map<Rows>(y.data, y.rows, y.cols) += a;
  }

  template <moe::Executor X>
  void backward(const moe::BlockCall& call, const Tape& t, const moe::ConstMatrixView<float>&,
                const moe::ConstMatrixView<float>& dy, const moe::MatrixView<float>& dx, Gradients* gradients,
                moe::Arena& arena, X& executor) const {
    Rows dn(dy.rows, width_), dh = Rows::Zero(dy.rows, width_);
    ffn_.backward(call, t.ffn, moe::ConstMatrixView<float>(t.n2), dy, moe::MatrixView<float>(dn),
                  gradients == nullptr ? nullptr : &gradients->ffn, arena, executor);
    normalise_back(t.n2, t.scale2, dn, dh, executor);
    const Rows da = map(dy) + dh;  // of what attention returned
    Rows dmixed, dqkv(dy.rows, 3 * width_);
    multiply_back(da, out_, dmixed, executor);
    executor.parallel_for(call.segments * heads_, [&](Index i, Index) noexcept {
      const Index first = call.segment_offsets[i / heads_], n = call.segment_offsets[i / heads_ + 1] - first;
      const Index head = i % heads_, d = width_ / heads_;
      const float scale = 1 / std::sqrt(static_cast<float>(d));
      const auto q = t.qkv.block(first, head * d, n, d), k = t.qkv.block(first, width_ + head * d, n, d),
                 v = t.qkv.block(first, 2 * width_ + head * d, n, d);
      const Rows& share = t.share[static_cast<std::size_t>(i)];
      const auto dm = dmixed.block(first, head * d, n, d);
      dqkv.block(first, 2 * width_ + head * d, n, d).noalias() = share.transpose() * dm;
      Rows ds = dm * v.transpose();
      for (Index a = 0; a < n; ++a) {
        const float mean = share.row(a).dot(ds.row(a));
        ds.row(a).array() = share.row(a).array() * (ds.row(a).array() - mean) * scale;
      }
      dqkv.block(first, head * d, n, d).noalias() = ds * k;
      dqkv.block(first, width_ + head * d, n, d).noalias() = ds.transpose() * q;
    });
    multiply_back(dqkv, qkv_, dn, executor);
    normalise_back(t.n, t.scale, dn, dh, executor);
    Eigen::Map<Rows>(dx.data, dx.rows, dx.cols) = dh;
    if (gradients == nullptr) return;
    add_weight_gradient(da, t.mixed, gradients->out, executor);
    add_weight_gradient(dqkv, t.n, gradients->qkv, executor);
  }

  Gradients make_gradients() const {
    return {Rows::Zero(qkv_.rows(), qkv_.cols()), Rows::Zero(out_.rows(), out_.cols()),
            ffn_.make_gradients()};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    f(moe::parameter_of<float>("qkv.weight", qkv_, gradients == nullptr ? nullptr : &gradients->qkv));
    f(moe::parameter_of<float>("out.weight", out_, gradients == nullptr ? nullptr : &gradients->out));
    ffn_.visit_parameters(gradients == nullptr ? nullptr : &gradients->ffn, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    f("qkv.weight", qkv_.data(), gradients == nullptr ? nullptr : gradients->qkv.data(), qkv_.size());
    f("out.weight", out_.data(), gradients == nullptr ? nullptr : gradients->out.data(), out_.size());
    ffn_.visit_storage(gradients == nullptr ? nullptr : &gradients->ffn, f);
  }

 private:
  /// 1/2, 1/8, 1/32, ...: some heads look far.
  static float slope(Index head) noexcept { return std::ldexp(0.5f, static_cast<int>(-2 * head)); }

  Index width_, heads_;
  FfnBlock ffn_;
  Rows qkv_;  // [3 D, D]
  Rows out_;  // [D, D]
};

/// A layer of a model, whatever its type.
class Piece {
 public:
  using VisitStorage = std::function<void(const char*, float*, float*, Index)>;
  using VisitParameters = std::function<void(const moe::Parameter<float>&)>;

  virtual ~Piece() = default;
  virtual void forward(const Rows& x, Rows& y, const Batch& batch, bool training, moe::Workspace& workspace,
                       moe::PoolExecutor& pool) = 0;
  virtual void backward(const Rows& dy, Rows& dx, moe::Workspace& workspace, moe::PoolExecutor& pool) = 0;
  virtual void visit_storage(const VisitStorage& f) = 0;
  virtual void visit_parameters(const VisitParameters& f) = 0;
  /// Rows that its blocks worked on since the last clear, and rows that there were.
  Index worked = 0, rows = 0;
};

template <moe::TokenLayer Layer>
class LayerPiece final : public Piece {
 public:
  explicit LayerPiece(Layer layer) : layer_(std::move(layer)), gradients_(layer_.make_gradients()) {}

  void forward(const Rows& x, Rows& y, const Batch& batch, bool training, moe::Workspace& workspace,
               moe::PoolExecutor& pool) override {
    y.resize(x.rows(), x.cols());
    moe::LayerInput<float> in(x);
    in.segments = moe::Segments::uniform(batch.length);
    moe::RouteStats stats;
    moe::LayerOutput<float> out(y, &stats);
    if (training) {
      layer_.forward_train(in, out, tape_, workspace, pool);
    } else {
      layer_.forward(in, out, workspace, pool);
    }
    worked += stats.pairs();
    rows += x.rows();
  }
  void backward(const Rows& dy, Rows& dx, moe::Workspace& workspace, moe::PoolExecutor& pool) override {
    dx.resize(dy.rows(), dy.cols());
    const typename Layer::LayerGradients back(dy, dx, gradients_);
    layer_.backward(tape_, back, workspace, pool);
  }
  void visit_storage(const VisitStorage& f) override { layer_.visit_storage(gradients_, f); }
  void visit_parameters(const VisitParameters& f) override { layer_.visit_parameters(f); }

 private:
  Layer layer_;
  typename Layer::Gradients gradients_;
  typename Layer::Tape tape_;
};

class DepthModel {
 public:
  static constexpr Index kBytes = 256;
  using Real = float;

  DepthModel(Index width, std::vector<std::unique_ptr<Piece>> pieces, std::uint64_t seed,
             moe::PoolExecutor& pool)
      : pieces_(std::move(pieces)), pool_(&pool), h_(pieces_.size() + 1) {
    table_ = random_matrix(kBytes, width, seed, 1);
    dtable_ = Rows::Zero(kBytes, width);
    output_ = doutput_ = Rows::Zero(kBytes, width);  // so that the first guess is 8 bits per byte
  }

  /// Mean loss in nats per byte.
  double loss(const Batch& batch) { return forward(batch, false); }
  /// Same, as in training, and adds the gradients of that and of the layers' own losses.
  double add_gradients(const Batch& batch) {
    const double loss = forward(batch, true);
    backward(batch);
    return loss;
  }

  template <class Visitor>
  void visit_storage(Visitor&& f) {
    moe::TrainedMatrix<float>("table", table_, dtable_).visit_storage(f);
    moe::TrainedMatrix<float>("output", output_, doutput_).visit_storage(f);
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      pieces_[i]->visit_storage([&](const char* name, float* values, float* gradients, Index n) {
        f(moe::ParameterName("pieces.", i, ".", name).c_str(), values, gradients, n);
      });
    }
  }
  template <class Visitor>
  void visit_parameters(Visitor&& f) {
    moe::TrainedMatrix<float>("table", table_, dtable_).visit_parameters(f);
    moe::TrainedMatrix<float>("output", output_, doutput_).visit_parameters(f);
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      pieces_[i]->visit_parameters([&](const moe::Parameter<float>& p) {
        const moe::ParameterName name("pieces.", i, ".", p.name);
        f(moe::Parameter<float>{name.c_str(), p.value, p.gradient});
      });
    }
  }

  Index parameters() {
    Index n = 0;
    visit_parameters([&](const moe::Parameter<float>& p) { n += p.value.size(); });
    return n;
  }
  std::size_t pieces() const { return pieces_.size(); }
  /// How often a row visited a block of piece i since clear_counts().
  double visits(std::size_t i) const {
    return static_cast<double>(pieces_[i]->worked) /
           static_cast<double>(std::max(Index{1}, pieces_[i]->rows));
  }
  void clear_counts() {
    for (auto& piece : pieces_) piece->worked = piece->rows = 0;
  }

 private:
  double forward(const Batch& batch, bool training) {
    h_[0].resize(batch.tokens(), table_.cols());
    for (Index t = 0; t < batch.tokens(); ++t) h_[0].row(t) = table_.row(batch.byte(t, 0));
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      pieces_[i]->forward(h_[i], h_[i + 1], batch, training, workspace_, *pool_);
    }
    normalise(h_.back(), x_, scale_, *pool_);
    return predict(batch, training);
  }

  /// Loss of softmax(x W^T) at the next bytes; p becomes its gradient by the logits.
  double predict(const Batch& batch, bool training) {
    const Index tokens = batch.tokens();
    multiply(x_, output_, p_, *pool_);
    loss_.resize(tokens);
    for_blocks(tokens, *pool_, [&](Index first, Index n) noexcept {
      for (Index t = first; t < first + n; ++t) {
        auto row = p_.row(t).array();
        const float highest = row.maxCoeff(), target = row[batch.next(t)];
        row = (row - highest).exp();
        const float sum = row.sum();
        loss_[t] = std::log(sum) + highest - target;
        if (!training) continue;
        row /= sum;
        row[batch.next(t)] -= 1;
        row /= static_cast<float>(tokens);
      }
    });
    return loss_.cast<double>().mean();
  }

  void backward(const Batch& batch) {
    add_weight_gradient(p_, x_, doutput_, *pool_);
    Rows dx, dh = Rows::Zero(x_.rows(), x_.cols());
    multiply_back(p_, output_, dx, *pool_);
    normalise_back(x_, scale_, dx, dh, *pool_);
    for (std::size_t i = pieces_.size(); i-- > 0;) {
      pieces_[i]->backward(dh, dx, workspace_, *pool_);
      dh.swap(dx);
    }
    for (Index t = 0; t < batch.tokens(); ++t) dtable_.row(batch.byte(t, 0)) += dh.row(t);
  }

  std::vector<std::unique_ptr<Piece>> pieces_;
  moe::PoolExecutor* pool_;
  moe::Workspace workspace_;
  Rows table_, dtable_, output_, doutput_;  // [256, D]
  std::vector<Rows> h_;                     // [T, D] before each piece and after the last
  Rows x_, p_;                              // [T, D], [T, 256]
  Eigen::VectorXf scale_, loss_;            // [T]
};

}  // namespace example
