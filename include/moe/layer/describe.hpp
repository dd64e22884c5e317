// What a layer is made of, in a line: for logs and bug reports.
#pragma once

#include <string>

#include "moe/config.hpp"

MOE_NAMESPACE_BEGIN

/// "scorer linear, score softmax, selection top_k, weighting gather, capacity dropless, experts glu, ...":
/// the parts by role, as they name themselves. `Layer`: MoeLayer, models::AnyLayer.
template <class Layer>
requires requires(const Layer& layer) {
  layer.visit_names([](const char*, const char*) {});
}
std::string describe(const Layer& layer) {
  std::string text;
  layer.visit_names([&](const char* role, const char* name) {
    if (!text.empty()) text += ", ";
    text.append(role).append(" ").append(name);
  });
  return text;
}

MOE_NAMESPACE_END
