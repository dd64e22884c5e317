// What a layer is made of, in a line and in ten: for logs and bug reports.
#pragma once

#include <ostream>
#include <string>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

/// A layer that names its parts: MoeLayer, IsolatedLayer, models::AnyLayer.
template <class Layer>
concept NamesParts = requires(const Layer& layer) {
  layer.visit_names([](const char*, const char*) {});
};

/// "scorer linear, score softmax, selection top_k, weighting gather, capacity dropless, experts glu, ...":
/// the parts by role, as they name themselves.
template <NamesParts Layer>
std::string describe(const Layer& layer) {
  std::string text;
  layer.visit_names([&](const char* role, const char* name) {
    if (!text.empty()) text += ", ";
    text.append(role).append(" ").append(name);
  });
  return text;
}

/// The extents (of layers of layers the width alone) and how far a row's result looks in inference, then a
/// line for each role:
///
///     layer of width 64, 8 experts, row_independent
///       scorer linear
///       balance load_balance, z_loss
///       ...
template <NamesParts Layer>
std::ostream& operator<<(std::ostream& out, const Layer& layer) {
  constexpr const char* kCoupling[] = {"row_independent", "per_segment", "per_batch"};
  std::string text = "layer of width " + std::to_string(Index{layer.width()}) + ", ";
  if constexpr (requires { Index{layer.experts()}; }) {
    text += std::to_string(Index{layer.experts()}) + " experts, ";
  } else if constexpr (requires { Index{layer.experts().experts()}; }) {
    text += std::to_string(Index{layer.experts().experts()}) + " experts, ";
  }
  text += kCoupling[static_cast<int>(layer.coupling(false))];
  std::string last;
  layer.visit_names([&](const char* role, const char* name) {
    text += last == role ? std::string(", ") : std::string("\n  ").append(role).append(" ");
    text += name;
    last = role;
  });
  return out << text << '\n';
}

MOE_NAMESPACE_END
