// What a layer keeps for each of its parts: the part's own Tape and Gradients, or nothing.
#pragma once

#include "moe/config.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

struct Nothing {};

template <class Part>
struct TapeOfPart {
  using type = Nothing;
};
template <class Part>
requires requires {
  typename Part::Tape;
}
struct TapeOfPart<Part> {
  using type = typename Part::Tape;
};
template <class Part>
struct GradientsOfPart {
  using type = Nothing;
};
template <class Part>
requires requires {
  typename Part::Gradients;
}
struct GradientsOfPart<Part> {
  using type = typename Part::Gradients;
};

template <class Part>
using TapeOf = typename TapeOfPart<Part>::type;
template <class Part>
using GradientsOf = typename GradientsOfPart<Part>::type;

}  // namespace impl

MOE_NAMESPACE_END
