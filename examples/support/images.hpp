// Small grey images with labels: digits that the program draws itself, or IDX files (as those of MNIST).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/core/types.hpp"

namespace example {

using moe::Index;

struct Images {
  static constexpr Index kClasses = 10;

  Index side = 28;                   // rows and columns
  std::vector<unsigned char> pixel;  // [count, side, side], 0 is dark
  std::vector<unsigned char> label;  // [count]

  Index count() const { return static_cast<Index>(label.size()); }
  const unsigned char* image(Index i) const { return pixel.data() + i * side * side; }
};

namespace impl {

using Point = std::pair<double, double>;
using Stroke = std::vector<Point>;

/// The strokes of a digit in the unit square, y downwards.
inline std::vector<Stroke> strokes_of(Index digit) {
  switch (digit) {
    case 0:
      return {{{.5, .1},
               {.68, .18},
               {.75, .4},
               {.75, .6},
               {.68, .82},
               {.5, .9},
               {.32, .82},
               {.25, .6},
               {.25, .4},
               {.32, .18},
               {.5, .1}}};
    case 1:
      return {{{.35, .25}, {.52, .1}, {.52, .9}}};
    case 2:
      return {{{.25, .3}, {.35, .13}, {.6, .1}, {.73, .28}, {.6, .5}, {.25, .9}, {.77, .9}}};
    case 3:
      return {{{.25, .14}, {.6, .1}, {.72, .27}, {.48, .47}, {.74, .68}, {.6, .9}, {.25, .86}}};
    case 4:
      return {{{.62, .9}, {.62, .1}, {.22, .62}, {.8, .62}}};
    case 5:
      return {{{.72, .1}, {.3, .1}, {.27, .45}, {.6, .42}, {.75, .65}, {.58, .9}, {.25, .86}}};
    case 6:
      return {{{.66, .1}, {.36, .4}, {.27, .7}, {.45, .9}, {.7, .8}, {.68, .58}, {.45, .5}, {.29, .65}}};
    case 7:
      return {{{.22, .1}, {.77, .1}, {.42, .9}}};
    case 8:
      return {{{.5, .47},
               {.3, .3},
               {.38, .12},
               {.62, .12},
               {.7, .3},
               {.5, .47},
               {.27, .68},
               {.36, .9},
               {.64, .9},
               {.73, .68},
               {.5, .47}}};
    default:
      return {{{.7, .35}, {.55, .5}, {.33, .42}, {.3, .2}, {.5, .09}, {.7, .2}, {.7, .35}, {.62, .9}}};
  }
}

inline double distance(Point p, Point a, Point b) {
  const double dx = b.first - a.first, dy = b.second - a.second, square = dx * dx + dy * dy;
  double along = square == 0 ? 0 : ((p.first - a.first) * dx + (p.second - a.second) * dy) / square;
  along = std::clamp(along, 0.0, 1.0);
  return std::hypot(p.first - a.first - along * dx, p.second - a.second - along * dy);
}

inline std::uint32_t big_endian(const std::string& bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}
inline std::string big_endian(std::uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 255);
  return bytes;
}

/// The sizes behind an IDX file's magic number, which must be `magic`, and where its bytes begin.
inline std::vector<Index> idx_sizes(const std::filesystem::path& path, const std::string& bytes,
                                    std::uint32_t magic) {
  const std::size_t dimensions = magic & 255, header = 4 + 4 * dimensions;
  if (bytes.size() < header || big_endian(bytes, 0) != magic) {
    throw std::runtime_error(path.string() + ": expected an IDX file of bytes in " +
                             std::to_string(dimensions) + " dimension(s)");
  }
  std::vector<Index> sizes;
  std::size_t expected = 1;
  for (std::size_t i = 0; i < dimensions; ++i) {
    sizes.push_back(big_endian(bytes, 4 + 4 * i));
    expected *= static_cast<std::size_t>(sizes.back());
    if (expected > bytes.size()) break;
  }
  if (bytes.size() != header + expected) {
    throw std::runtime_error(path.string() + ": expected as many bytes as its header says, got " +
                             std::to_string(bytes.size()));
  }
  return sizes;
}

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

constexpr std::uint32_t kIdxImages = 0x803, kIdxLabels = 0x801;

}  // namespace impl

/// `count` digits, turned, sheared, moved and of several sizes, with noise and two strokes that mean nothing.
inline Images draw_digits(Index count, std::uint64_t seed) {
  using impl::Point;
  Images all;
  all.pixel.resize(static_cast<std::size_t>(count * all.side * all.side));
  const moe::KeyedRandom random(seed, 7, moe::DrawStream::user);
  for (Index i = 0; i < count; ++i) {
    std::uint32_t lane = 0;
    const auto uniform = [&](double low, double high) {
      return low + (high - low) * random.uniform(static_cast<std::uint64_t>(i), lane++);
    };
    const Index digit = i % Images::kClasses;
    all.label.push_back(static_cast<unsigned char>(digit));
    const double angle = uniform(-.35, .35), shear = uniform(-.3, .3), width = uniform(.6, 1),
                 height = uniform(.65, 1), x = uniform(-.12, .12), y = uniform(-.1, .1),
                 thickness = uniform(.035, .07), bright = uniform(150, 255);
    std::vector<impl::Stroke> strokes = impl::strokes_of(digit);
    for (impl::Stroke& stroke : strokes) {
      for (Point& p : stroke) {
        const double u = width * (p.first - .5) + shear * (p.second - .5), v = height * (p.second - .5);
        p = {.5 + x + std::cos(angle) * u - std::sin(angle) * v,
             .5 + y + std::sin(angle) * u + std::cos(angle) * v};
      }
    }
    for (int extra = 0; extra < 2; ++extra) {
      const Point from{uniform(0, 1), uniform(0, 1)};
      strokes.push_back({from, {from.first + uniform(-.25, .25), from.second + uniform(-.25, .25)}});
    }
    const auto side = static_cast<double>(all.side);
    for (Index p = 0; p < all.side * all.side; ++p) {
      const Point at{(static_cast<double>(p % all.side) + .5) / side,
                     (static_cast<double>(p / all.side) + .5) / side};
      double near = 1;
      for (const impl::Stroke& stroke : strokes) {
        for (std::size_t s = 0; s + 1 < stroke.size(); ++s) {
          near = std::min(near, impl::distance(at, stroke[s], stroke[s + 1]));
        }
      }
      const double light =
          std::clamp(1.5 - near / thickness, 0.0, 1.0) * bright +
          40 * random.normal(static_cast<std::uint64_t>(i), 1000 + static_cast<std::uint32_t>(p));
      all.pixel[static_cast<std::size_t>(i * all.side * all.side + p)] =
          static_cast<unsigned char>(std::clamp(light, 0.0, 255.0));
    }
  }
  return all;
}

/// Square images [count, side, side] and labels [count] below 10 of two IDX files. Throws for others.
inline Images read_idx(const std::filesystem::path& images, const std::filesystem::path& labels) {
  const std::string pixels = impl::read_bytes(images), names = impl::read_bytes(labels);
  const std::vector<Index> sizes = impl::idx_sizes(images, pixels, impl::kIdxImages);
  const std::vector<Index> count = impl::idx_sizes(labels, names, impl::kIdxLabels);
  if (sizes[0] != count[0] || sizes[1] != sizes[2] || sizes[0] < 1 || sizes[1] < 1) {
    throw std::runtime_error(images.string() + ": expected square images, as many as labels (" +
                             std::to_string(count[0]) + "), got " + std::to_string(sizes[0]) + " of " +
                             std::to_string(sizes[1]) + " x " + std::to_string(sizes[2]));
  }
  Images all;
  all.side = sizes[1];
  all.pixel.assign(pixels.begin() + 16, pixels.end());
  all.label.assign(names.begin() + 8, names.end());
  if (*std::max_element(all.label.begin(), all.label.end()) >= Images::kClasses) {
    throw std::runtime_error(labels.string() + ": expected labels below 10");
  }
  return all;
}

inline void write_idx(const Images& all, const std::filesystem::path& images,
                      const std::filesystem::path& labels) {
  const auto count = static_cast<std::uint32_t>(all.count()), side = static_cast<std::uint32_t>(all.side);
  const auto write = [](const std::filesystem::path& path, const std::string& header,
                        const std::vector<unsigned char>& bytes) {
    std::ofstream out(path, std::ios::binary);
    out << header << std::string(bytes.begin(), bytes.end());
    if (!out.flush()) throw std::runtime_error("cannot write " + path.string());
  };
  using impl::big_endian;
  write(images, big_endian(impl::kIdxImages) + big_endian(count) + big_endian(side) + big_endian(side),
        all.pixel);
  write(labels, big_endian(impl::kIdxLabels) + big_endian(count), all.label);
}

}  // namespace example
