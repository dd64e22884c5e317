// Two plots as SVG files: lines over a common x axis, and a table of coloured cells.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace example {

struct Series {
  std::string name;
  std::string colour;
  bool dashed = false;
  std::vector<std::pair<double, double>> points;
};

/// Text and shapes of one drawing, in pixels from the top left.
class Svg {
 public:
  Svg(double width, double height) {
    add("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\"", width,
        height, width, height);
    body_ += " font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#333333\">\n";
    rectangle(0, 0, width, height, "#ffffff");
  }

  void rectangle(double x, double y, double width, double height, const std::string& colour) {
    add("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"", x, y, width, height);
    body_ += " fill=\"" + colour + "\"/>\n";
  }
  void line(const std::vector<std::pair<double, double>>& points, const std::string& colour, double width,
            bool dashed = false) {
    body_ += "<polyline fill=\"none\" stroke-linejoin=\"round\" stroke=\"" + colour + "\"";
    if (dashed) body_ += " stroke-dasharray=\"6 4\"";
    add(" stroke-width=\"%g\" points=\"", width);
    for (const auto& [x, y] : points) add("%.1f,%.1f ", x, y);
    body_ += "\"/>\n";
  }
  /// `anchor`: start, middle or end. `turned`: reads upwards.
  void text(double x, double y, const std::string& words, const char* anchor, const std::string& style = "",
            bool turned = false) {
    add("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"", x, y, anchor);
    if (turned) add(" transform=\"rotate(-90 %.1f %.1f)\"", x, y);
    body_ += " " + style + ">" + words + "</text>\n";
  }
  void save(const std::filesystem::path& path) const {
    std::ofstream out(path);
    out << body_ << "</svg>\n";
    if (!out.flush()) throw std::runtime_error("cannot write " + path.string());
  }

 private:
  template <class... Values>
  void add(const char* format, Values... values) {
    char buffer[256];
    std::snprintf(buffer, sizeof buffer, format, values...);
    body_ += buffer;
  }

  std::string body_;
};

inline std::string number(double value, int digits) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.*f", digits, value);
  return buffer;
}

/// The smallest of 1, 2, 5 times a power of ten that cuts `range` into at most `most` pieces.
inline double tick_step(double range, double most) {
  const double power = std::pow(10.0, std::floor(std::log10(range / most)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (range / (step * power) <= most) return step * power;
  }
  return 10 * power;
}

/// Lines; the y axis ends at `top`, so that steep beginnings do not flatten the rest.
inline void draw_lines(const std::filesystem::path& path, const std::string& title,
                       const std::string& x_label, const std::string& y_label, const std::vector<Series>& all,
                       double top) {
  constexpr double kLeft = 70, kTop = 50, kWidth = 620, kBottom = 60, kLegend = 24;
  constexpr double kLetter = 7.5, kNumber = 60;  // room for a letter, and for the number behind a name
  std::size_t longest = 0;
  for (const Series& s : all) longest = std::max(longest, s.name.size());
  const double numbers = 52 + kLetter * static_cast<double>(longest) + kNumber, right = numbers + 30;
  const double height = std::max(380.0, kLegend * static_cast<double>(all.size()));
  double last = 0, low = top;
  for (const Series& s : all) {
    for (const auto& [x, y] : s.points) last = std::max(last, x), low = std::min(low, y);
  }
  const double y_step = tick_step(std::max(top - low, 1e-3), 7), x_step = tick_step(std::max(last, 1.0), 6);
  const double bottom = std::floor(low / y_step) * y_step;
  const auto at_x = [&](double x) { return kLeft + kWidth * x / std::max(last, 1.0); };
  const auto at_y = [&](double y) { return kTop + height * (top - y) / (top - bottom); };

  Svg svg(kLeft + kWidth + right, kTop + height + kBottom);
  svg.text(kLeft, 28, title, "start", "font-size=\"16\" font-weight=\"bold\"");
  const int digits = y_step < 0.1 ? 2 : 1;
  for (double y = bottom; y <= top + 1e-9; y += y_step) {
    svg.line({{kLeft, at_y(y)}, {kLeft + kWidth, at_y(y)}}, "#e4e4e4", 1);
    svg.text(kLeft - 8, at_y(y) + 4, number(y, digits), "end");
  }
  for (double x = 0; x <= last + 1e-9; x += x_step) {
    svg.line({{at_x(x), kTop + height}, {at_x(x), kTop + height + 5}}, "#888888", 1);
    svg.text(at_x(x), kTop + height + 20, number(x, 0), "middle");
  }
  svg.line({{kLeft, kTop + height}, {kLeft + kWidth, kTop + height}}, "#888888", 1);
  svg.text(kLeft + kWidth / 2, kTop + height + 45, x_label, "middle");
  svg.text(22, kTop + height / 2, y_label, "middle", "", true);

  // The legend lists the lines from the highest end to the lowest, as they are seen.
  std::vector<const Series*> order;
  for (const Series& s : all) {
    if (!s.points.empty()) order.push_back(&s);
  }
  std::sort(order.begin(), order.end(), [](const Series* a, const Series* b) {
    const double x = a->points.back().second, y = b->points.back().second;
    return x != y ? x > y : a < b;
  });
  double legend = kTop + 10;
  for (const Series* s : order) {
    std::vector<std::pair<double, double>> line;
    for (std::size_t i = 0; i < s->points.size(); ++i) {
      const auto [x, y] = s->points[i];
      if (y <= top) {
        if (line.empty() && i > 0) {  // enters through the top
          const auto [x0, y0] = s->points[i - 1];
          line.emplace_back(at_x(x0 + (x - x0) * (y0 - top) / (y0 - y)), at_y(top));
        }
        line.emplace_back(at_x(x), at_y(y));
      }
    }
    svg.line(line, s->colour, 2, s->dashed);
    const double x = kLeft + kWidth + 18;
    svg.line({{x, legend - 4}, {x + 26, legend - 4}}, s->colour, 2.5, s->dashed);
    svg.text(x + 34, legend, s->name, "start");
    svg.text(kLeft + kWidth + numbers, legend, number(s->points.back().second, 3), "end");
    legend += kLegend;
  }
  svg.save(path);
}

/// One row of numbers per name. A cell is white at 1 (the mean), towards blue below and towards orange above,
/// in full colour at 0 and at 2.
inline void draw_cells(const std::filesystem::path& path, const std::string& title,
                       const std::string& x_label,
                       const std::vector<std::pair<std::string, std::vector<double>>>& rows) {
  constexpr double kLeft = 190, kTop = 74, kCellWidth = 62, kCellHeight = 30;
  std::size_t columns = 0;
  for (const auto& row : rows) columns = std::max(columns, row.second.size());
  const double width = kCellWidth * static_cast<double>(columns),
               height = kCellHeight * static_cast<double>(rows.size());
  Svg svg(kLeft + width + 30, kTop + height + 56);
  svg.text(20, 28, title, "start", "font-size=\"16\" font-weight=\"bold\"");
  for (std::size_t c = 0; c < columns; ++c) {
    svg.text(kLeft + (static_cast<double>(c) + 0.5) * kCellWidth, kTop - 10, std::to_string(c), "middle");
  }
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const double y = kTop + static_cast<double>(r) * kCellHeight;
    svg.text(kLeft - 12, y + 20, rows[r].first, "end");
    for (std::size_t c = 0; c < rows[r].second.size(); ++c) {
      const double value = rows[r].second[c], off = std::clamp(value - 1, -1.0, 1.0);
      const auto mix = [&](double blue, double orange) {
        return static_cast<int>(247 + std::fabs(off) * ((off < 0 ? blue : orange) - 247));
      };
      char colour[8];
      std::snprintf(colour, sizeof colour, "#%02x%02x%02x", mix(107, 230), mix(174, 145), mix(214, 56));
      const double x = kLeft + static_cast<double>(c) * kCellWidth;
      svg.rectangle(x + 1, y + 1, kCellWidth - 2, kCellHeight - 2, colour);
      svg.text(x + kCellWidth / 2, y + 20, number(value, 2), "middle");
    }
  }
  svg.text(kLeft + width / 2, kTop + height + 30, x_label, "middle");
  svg.save(path);
}

}  // namespace example
