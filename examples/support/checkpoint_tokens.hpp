// The rows that 05_checkpoint gives to a layer.
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "checkpoint_options.hpp"
#include "moe/core/input.hpp"
#include "moe/io/checkpoint.hpp"
#include "moe/io/file/tensor.hpp"

namespace example {

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct Tokens {
  Rows x, y;  // y may be empty
  std::vector<moe::TokenId> ids;
  std::vector<Index> segments;  // where sequences begin, and the end

  moe::LayerInput<float> input() const {
    moe::LayerInput<float> in(x);
    in.segments = moe::Segments(std::span<const Index>(segments));
    in.token_id = ids;
    return in;
  }
};

inline void cut_into_sequences(Tokens& tokens, Index length) {
  const Index rows = tokens.x.rows();
  for (Index first = 0; first < rows; first += length == 0 ? rows : length) tokens.segments.push_back(first);
  tokens.segments.push_back(rows);
}

/// Random ones, or those of a file. Throws what moe::io throws, std::runtime_error for rows that do not
/// match.
inline Tokens read_tokens(const CheckpointOptions& options, Index width) {
  Tokens tokens;
  if (options.tokens.empty()) {
    tokens.x = Rows::Random(options.random, width) * std::sqrt(3.0f);  // of variance 1
    cut_into_sequences(tokens, options.sequence);
    return tokens;
  }
  const moe::io::Checkpoint file(options.tokens);
  // Files that hold several layers' rows name them so.
  const std::string own = "layers." + std::to_string(options.layer) + ".";
  const std::string prefix = file.find(own + "x") == nullptr ? "" : own;
  const auto read = [&](const moe::io::Tensor& t, Rows& to) {
    to.resize(t.shape.rank == 2 ? t.shape[0] : 1, width);
    moe::io::read_matrix(t, to);
  };
  read(file.at(prefix + "x"), tokens.x);
  cut_into_sequences(tokens, options.sequence);
  if (const moe::io::Tensor* const y = file.find(prefix + "y")) {
    read(*y, tokens.y);
    if (tokens.y.rows() != tokens.x.rows())
      throw std::runtime_error(y->where() + ": expected as many rows as x");
  }
  if (const moe::io::Tensor* const t = file.find(prefix + "token_ids")) {
    std::vector<Index> ids(static_cast<std::size_t>(tokens.x.rows()));
    moe::io::read_integers(*t, ids.data(), tokens.x.rows());
    for (const Index id : ids) {
      tokens.ids.push_back(static_cast<moe::TokenId>(id));
      if (tokens.ids.back() != id) throw std::runtime_error(t->where() + ": expected ids of 31 bits");
    }
  }
  return tokens;
}

}  // namespace example
