#!/usr/bin/env python3
"""JSON of a run of moe_bench -> a Markdown table and an SVG.

    moe_bench --benchmark_repetitions=7 --benchmark_enable_random_interleaving=true \\
              --benchmark_out=run.json --benchmark_out_format=json
    bench/report.py run.json [more.json ...] --table run.md --picture run.svg [--threads 1]
    bench/report.py run.json --assignments assignments.svg
    bench/report.py --published docs/performance.md --picture docs/images/roofline.svg

A cell's figure is the median of its repetitions, of all files together; one above 1.03 of its limit is marked. The
picture: fraction of the roofline over T, one panel for each storage (row) and shape (column), peers beside ours; of
cells assignment/...: time a row over T, one panel for each number of experts. --published draws from the tables of that
page, with the best of all peers. Python's standard library only.
"""
import argparse
import collections
import html
import json
import math
import re
import statistics
import sys

TOKENS = [1, 8, 64, 512, 2048]
STORAGES = ["float", "double", "bf16", "int8", "int4"]
OURS = "moe"
BEYOND = 1.03  # of a limit: the limit was disturbed, or is none
UNRELIABLE = " (unreliable)"
COLOURS = {OURS: "#c0392b", "onednn": "#2471a3", "openblas_loop": "#7d6608", "eigen_loop": "#7f8c8d"}
OTHER_COLOURS = ["#1e8449", "#6c3483", "#d35400", "#17202a"]

Cell = collections.namedtuple("Cell", "kind who storage shape tokens threads skew")


def parse_name(name):
    """The cell of a benchmark's name, or None for benchmarks that have no place in the table."""
    pattern = (r"(forward|train|train_step|peer/(?P<who>[^/]+))/(?P<storage>[^/]+)/(?P<shape>[^/]+)"
               r"/tokens:(?P<tokens>\d+)/threads:(?P<threads>\d+)(?:/skew:(?P<skew>\w+))?(?:/|$)")
    match = re.match(pattern, name)
    if not match:
        return None
    kind = match[1].split("/")[0]
    return Cell("forward" if kind == "peer" else kind, match["who"] or OURS, match["storage"], match["shape"],
                int(match["tokens"]), int(match["threads"]), match["skew"] or "uniform")


class Runs:
    """All repetitions of the files: samples of each counter by cell; `other` by name for what is no cell."""

    def __init__(self, paths):
        self.context = {}
        self.cells = collections.defaultdict(lambda: collections.defaultdict(list))
        self.other = collections.defaultdict(lambda: collections.defaultdict(list))
        for path in paths:
            with open(path, encoding="utf-8") as file:
                run = json.load(file)
            self.context = self.context or run["context"]
            for entry in run["benchmarks"]:
                if entry.get("run_type") == "aggregate":
                    continue
                if entry.get("error_occurred"):
                    sys.exit(f"{path}: {entry['name']}: {entry.get('error_message')}")
                if entry.get("wrong"):
                    print(f"{path}: {entry['name']} left out: {entry.get('label')}", file=sys.stderr)
                    continue
                name = entry.get("run_name", entry["name"])
                samples = self.cells[cell] if (cell := parse_name(name)) else self.other[name]
                for key, value in entry.items():
                    if isinstance(value, float):
                        samples[key].append(value)

    def median(self, cell, counter):
        """None where the cell or its counter is missing."""
        samples = self.cells[cell].get(counter) if cell in self.cells else None
        return statistics.median(samples) if samples else None

    def spread(self, cell, counter):
        samples = self.cells[cell][counter]
        return (max(samples) - min(samples)) / statistics.median(samples) if len(samples) > 1 else None

    def values(self, field):
        found = {getattr(cell, field) for cell in self.cells}
        order = {"storage": STORAGES, "tokens": TOKENS}.get(field, [])
        return sorted(found, key=lambda v: (order.index(v) if v in order else len(order), v))

    def processor(self):
        context = self.context
        return f"{context.get('processor', 'unknown processor')}, moe {context.get('moe', 'of unknown version')}"


def markdown(rows):
    """Rows of strings, the first one the head."""
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body]) + "\n"


def figure(value, text):
    return "" if value is None else text.format(value)


def forward_table(runs, threads):
    """One line for each storage and shape: fraction of the roofline, (GFLOP/s), best peer beside it."""
    rows = [["storage", "shape"] + [f"T = {t}" for t in runs.values("tokens")]]
    for storage in runs.values("storage"):
        for shape in runs.values("shape"):
            row = []
            for tokens in runs.values("tokens"):
                ours = Cell("forward", OURS, storage, shape, tokens, threads, "uniform")
                peers = [(runs.median(cell, "flops_per_s"), cell.who) for cell in runs.cells
                         if cell.who != OURS and cell == ours._replace(who=cell.who)]
                roofline = runs.median(ours, "roofline")
                text = figure(roofline, "**{:.2f}**")
                text += UNRELIABLE if roofline and roofline > BEYOND else ""
                text += figure(runs.median(ours, "flops_per_s") and runs.median(ours, "flops_per_s") * 1e-9, " ({:.0f})")
                if peers:
                    best, who = max(peers)
                    text += f"; {who} {best * 1e-9:.0f}"
                row.append(text)
            if any(row):
                rows.append([storage, shape] + row)
    return markdown(rows) if len(rows) > 1 else ""


def other_tables(runs):
    """Skew, training, stages, schedules, executor: what has a counter of its own."""
    text = ""
    counters = {"of_uniform": "Throughput under skew over uniform, equal number of pairs",
                "fma_fraction": "Training: flops of the three passes over the peak",
                "optimiser_share": "Share of the optimiser in a training step"}
    for counter, title in counters.items():
        rows = [["benchmark", counter]]
        for cell in sorted(runs.cells):
            value = runs.median(cell, counter)
            if value is not None:
                skew = "" if cell.skew == "uniform" else f", {cell.skew}"
                rows.append([f"{cell.kind} {cell.storage} {cell.shape}, T = {cell.tokens}, "
                             f"{cell.threads} thread(s){skew}", f"{value:.3f}"])
        if len(rows) > 1:
            text += f"\n### {title}\n\n" + markdown(rows)
    rows = [["benchmark", "counter", "value"]]
    for name, samples in sorted(runs.other.items()):
        for counter in ("overhead_share", "makespan_over_ideal", "median_ns"):
            if counter in samples:
                rows.append([re.sub(r"/(iterations:\d+|manual_time|real_time)", "", name), counter,
                             f"{statistics.median(samples[counter]):.4g}"])
    if len(rows) > 1:
        text += "\n### Stages, schedules, executor\n\n" + markdown(rows)
    return text


def routes_table(runs):
    """One line for each router: microseconds a token by experts and tokens, and its largest share of S2 with 64 experts."""
    cells = {}
    for name, samples in runs.other.items():
        match = re.match(r"route/([^/]+)/experts:(\d+)/tokens:(\d+)(?:/|$)", name)
        if match and "s2_share" in samples:
            cells[match[1], int(match[2]), int(match[3])] = samples
    sizes = sorted({cell[1:] for cell in cells})
    rows = [["router"] + [f"E = {experts}, T = {tokens}" for experts, tokens in sizes] + ["share of S2, E = 64"]]
    for router in sorted({cell[0] for cell in cells}):
        own = [cells.get((router, *size)) for size in sizes]
        shares = [statistics.median(samples["s2_share"]) for (experts, _), samples in zip(sizes, own)
                  if experts == 64 and samples]
        rows.append([router] + [f"{statistics.median(samples['ns_per_token']) / 1000:.2f}" if samples else ""
                                for samples in own] + [f"{100 * max(shares):.1f} %" if shares else ""])
    return "\n### Routers: microseconds a token, stages 1 and 2, 1 thread\n\n" + markdown(rows) if len(rows) > 1 else ""


def limits_line(runs):
    return "; ".join(f"{key}: {value}" for key, value in sorted(runs.context.items()) if key.startswith("limits"))


def spread_line(runs):
    spreads = [s for cell in runs.cells if (s := runs.spread(cell, "real_time")) is not None]
    count = max((len(samples["real_time"]) for samples in runs.cells.values()), default=0)
    if not spreads:
        return "One run of each.\n" if runs.cells else "\n"
    return (f"Medians of {count}; (max - min) / median of a cell's times: {statistics.median(spreads):.2f} in the "
            f"middle, {max(spreads):.2f} at most.\n")


def table(runs):
    text = f"{runs.processor()}, {runs.context.get('date', '')[:10]}. {limits_line(runs)}. {spread_line(runs)}"
    for threads in runs.values("threads"):
        body = forward_table(runs, threads)
        if body:
            text += (f"\n### Forward, {threads} thread(s): **fraction of the roofline** (GFLOP/s); best peer's "
                     f"GFLOP/s\n\n{body}")
    return text + other_tables(runs) + routes_table(runs) + assignment_table(runs)


FRACTIONS = {0: "0.0", 0.2: "0.2", 0.4: "0.4", 0.6: "0.6", 0.8: "0.8", 1: "1.0"}


class Picture:
    """Panels of 210 x 150 with a logarithmic axis of T; the other one is linear unless a panel says otherwise."""
    WIDTH, HEIGHT, LEFT, TOP, GAP = 210, 150, 70, 76, 34

    def __init__(self, columns, rows, title, subtitle):
        self.columns, self.rows = columns, rows
        self.width = self.LEFT + columns * (self.WIDTH + self.GAP) + 10
        self.height = self.TOP + rows * (self.HEIGHT + self.GAP + 18) + 10
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
                      f'viewBox="0 0 {self.width} {self.height}" font-family="sans-serif" font-size="11">',
                      f'<rect width="{self.width}" height="{self.height}" fill="white"/>']
        self.text(self.LEFT, 20, title, size=15)
        self.text(self.LEFT, 37, subtitle, colour="#555555")

    def text(self, x, y, words, size=11, anchor="start", colour="#222222"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">'
                          f"{html.escape(words)}</text>")

    def line(self, points, colour, width=1.0, dash=""):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{style}/>')

    def dot(self, x, y, colour, radius=2.5):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>')

    def legend(self, names, colour_of, dots=()):
        """A line for each of the names, a dot for those that are among `dots`."""
        x = self.LEFT
        for name in names:
            if name in dots:
                self.dot(x + 14, 54, colour_of(name))
            else:
                self.line([(x, 54), (x + 18, 54)], colour_of(name), 2.5 if name == OURS else 1.5)
            self.text(x + 22, 58, name)
            x += 34 + 7 * len(name)

    def panel(self, column, row, title, tokens, series, colour_of, ticks=FRACTIONS, height=lambda v: v / 1.2,
              point_colour=None):
        """series: name -> {T: value}; height(value): from 0 at the bottom to 1 at the top; point_colour(name, T)."""
        point_colour = point_colour or (lambda name, t: colour_of(name))
        left = self.LEFT + column * (self.WIDTH + self.GAP)
        top = self.TOP + row * (self.HEIGHT + self.GAP + 18) + 14
        step = self.WIDTH / max(1, len(tokens) - 1)

        def at(t, value):
            return left + tokens.index(t) * step, top + self.HEIGHT * (1 - min(max(height(value), 0), 1))

        self.text(left, top - 5, title, size=12)
        for tick, label in ticks.items():
            y = top + self.HEIGHT * (1 - height(tick))
            self.line([(left, y), (left + self.WIDTH, y)], "#999999" if tick == 1 else "#dddddd")
            if column == 0:
                self.text(left - 6, y + 4, label, anchor="end")
        for t in tokens:
            self.text(at(t, tick)[0], top + self.HEIGHT + 14, str(t), anchor="middle")
        for name, values in sorted(series.items(), key=lambda item: item[0] == OURS):
            ours = name == OURS
            points = {t: at(t, values[t]) for t in tokens if t in values}
            self.line(points.values(), colour_of(name), 2.5 if ours else 1.5, "" if ours else "5 3")
            for t, (x, y) in points.items():
                self.dot(x, y, point_colour(name, t), 3 if ours else 2.5)

    def finish(self):
        return "\n".join(self.parts + ["</svg>"]) + "\n"


def picture(runs, threads):
    cells = [cell for cell in runs.cells if cell.kind == "forward" and cell.threads == threads and
             cell.skew == "uniform" and runs.median(cell, "roofline") is not None]
    storages = [s for s in runs.values("storage") if any(cell.storage == s for cell in cells)]
    shapes = [s for s in runs.values("shape") if any(cell.shape == s for cell in cells)]
    tokens = [t for t in runs.values("tokens") if any(cell.tokens == t for cell in cells)]
    names = sorted({cell.who for cell in cells}, key=lambda name: (name != OURS, name))
    others = [name for name in names if name not in COLOURS]

    def colour_of(name):
        return COLOURS.get(name) or OTHER_COLOURS[others.index(name) % len(OTHER_COLOURS)]

    drawing = Picture(len(shapes), len(storages), f"Fraction of the roofline over T, {threads} thread(s)",
                      runs.processor())
    drawing.legend(names, colour_of)
    for row, storage in enumerate(storages):
        for column, shape in enumerate(shapes):
            series = collections.defaultdict(dict)
            for cell in cells:
                if cell.storage == storage and cell.shape == shape:
                    series[cell.who][cell.tokens] = runs.median(cell, "roofline")
            drawing.panel(column, row, f"{storage}, {shape}", tokens, series, colour_of)
    return drawing.finish()


ASSIGNMENT = re.compile(r"assignment/(?P<who>\w+)/tokens:(?P<tokens>\d+)/experts:(?P<experts>\d+)(?:/|$)")


def assignments(runs):
    """experts -> who -> T -> microseconds of the processor a row, the medians."""
    found = collections.defaultdict(lambda: collections.defaultdict(dict))
    for name, samples in runs.other.items():
        if match := ASSIGNMENT.match(name):
            tokens = int(match["tokens"])
            found[int(match["experts"])][match["who"]][tokens] = statistics.median(samples["cpu_time"]) / tokens
    return found


def assignment_table(runs):
    found = assignments(runs)
    tokens = sorted({t for methods in found.values() for times in methods.values() for t in times})
    rows = [["experts", "method"] + [f"T = {t}" for t in tokens]]
    for experts, methods in sorted(found.items()):
        for who, times in methods.items():
            rows.append([str(experts), who] + [figure(times.get(t), "{:.3g}") for t in tokens])
    return "\n### Balanced assignments, 1 thread: microseconds of the processor a row\n\n" + markdown(rows) if found else ""


def assignment_picture(runs):
    found = assignments(runs)
    tokens = sorted({t for methods in found.values() for times in methods.values() for t in times})
    names = sorted({who for methods in found.values() for who in methods})
    colours = dict(zip(names, [COLOURS[OURS], "#7f8c8d", "#2471a3"] + OTHER_COLOURS))
    ticks = {10.0 ** i: f"{10.0 ** i:g}" for i in range(-2, 5)}
    drawing = Picture(len(found), 1, "Balanced assignments of T rows: microseconds a row", runs.processor())
    drawing.legend(names, colours.get)
    for column, (experts, methods) in enumerate(sorted(found.items())):
        drawing.panel(column, 0, f"{experts} experts", tokens, methods, colours.get, ticks,
                      lambda v: (math.log10(v) + 2) / 6.2)
    return drawing.finish()


# The published tables: docs/performance.md.
SHAPES = {"S1": (1024, 3584, 8, 2), "S2": (1024, 512, 64, 8), "S3": (2048, 1024, 64, 8)}  # D, F, E, K
BITS = {"float": 32, "bf16": 16, "int8": 8.5, "int4": 4.5}
PEER_NAMES = {"onednn": "oneDNN", "openblas_loop": "OpenBLAS loop", "eigen_loop": "Eigen loop"}
PEER_COLOURS = {"oneDNN": "#2471a3", "OpenBLAS": "#7d6608", "OpenBLAS loop": "#7d6608", "Eigen loop": "#7f8c8d",
                "ik_llama.cpp": "#1e8449", "ggml": "#6c3483", "vLLM": "#d35400", "onnxruntime QMoE": "#17202a"}


def tables_after(text, heading):
    """The first table after `heading`: its rows as dicts by the words of its head."""
    lines = iter(text[text.index(heading):].split("\n"))
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip().replace("**", "") for cell in line.strip("|").split("|")])
        elif rows:
            break
    return [dict(zip(rows[0], row)) for row in rows[2:]]


def figures_of(row):
    """T -> the cell's words, of the cells that have any."""
    return {int(name[4:]): cell for name, cell in row.items() if name.startswith("T = ") and cell}


def time_at_limits(storage, shape, tokens, operations, bandwidth):
    """Seconds for a layer on a machine of so many Gop/s and GB/s, and its flops; uniform routing."""
    width, hidden, experts, k = SHAPES[shape]
    flops = tokens * (6 * width * hidden * k + 2 * width * experts)
    touched = experts * (1 - (1 - k / experts) ** tokens)
    moved = touched * 3 * width * hidden * BITS[storage] / 8 + 4 * width * (experts + 2 * tokens)
    return max(flops / operations, moved / bandwidth) * 1e-9, flops


def published(path):
    """column title -> storage -> (T -> our fraction of the roofline, T -> the best peer's and who it is)."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    ours, peers = {}, collections.defaultdict(list)  # by storage, shape, T: fraction and GFLOP/s; (GFLOP/s, who)
    for row in tables_after(text, "### Forward, 1 thread:"):
        for tokens, cell in figures_of(row).items():
            own, *best = cell.split("; ")
            fraction, flops = re.match(r"([\d.]+) \((\d+)\)", own).groups()
            key = row["storage"], row["shape"], tokens
            ours[key] = float(fraction), float(flops)
            peers[key] += [(float(who.split()[1]), PEER_NAMES[who.split()[0]]) for who in best]
    for row in tables_after(text, "**Python peers**"):
        if (row["pass"], row["threads"]) == ("forward", "1"):
            peers[row["storage"], row["shape"], int(row["T"])].append((float(row["theirs"]), row["peer"]))
    for row in tables_after(text, "**Peers of an earlier run**"):
        for tokens, cell in figures_of(row).items():
            flops, who = cell.split(" ", 1)
            peers[row["storage"], row["shape"], tokens].append((float(flops), who))
    columns = {}
    for shape in SHAPES:
        columns[f"{shape}, AVX-512"] = {storage: (
            {t: ours[storage, shape, t][0] for t in TOKENS},
            {t: (ours[storage, shape, t][0] * best / ours[storage, shape, t][1], who)
             for t in TOKENS for best, who in [max(peers[storage, shape, t], default=(None, None))] if who})
            for storage in BITS}

    own = {re.match(r"\w+", row[""])[0]: figures_of(row) for row in tables_after(text, "### AVX2 (")}
    columns["S2, AVX2"] = {}
    for row in tables_after(text, "**Peers on another AVX2 machine**"):
        def fractions(figures, limits):
            return {t: time_at_limits(row["storage"], "S2", t, *map(float, limits.split(", ")))[0] * 1e9 * value
                    / time_at_limits(row["storage"], "S2", t, 1, 1)[1] for t, value in figures.items()}
        cells = {t: cell.split(" ", 1) for t, cell in figures_of(row).items()}
        theirs = fractions({t: float(cell[0]) for t, cell in cells.items()}, row["its Gop/s, GB/s"])
        columns["S2, AVX2"][row["storage"]] = (
            fractions({t: float(re.match(r"[\d.]+", cell)[0]) for t, cell in own[row["storage"]].items()},
                      row["ours"]),
            {t: (fraction, cells[t][1]) for t, fraction in theirs.items()})
    return columns


def published_picture(path):
    columns = published(path)
    names = sorted({who for column in columns.values() for _, peers in column.values() for _, who in peers.values()})
    others = [name for name in names if name not in PEER_COLOURS]

    def colour_of(name):
        if name in (OURS, "best peer"):
            return {OURS: COLOURS[OURS], "best peer": "#888888"}[name]
        return PEER_COLOURS.get(name) or OTHER_COLOURS[others.index(name) % len(OTHER_COLOURS)]

    drawing = Picture(len(columns), len(BITS), "Fraction of the roofline over T, 1 thread: moe and the best peer",
                      "AVX-512: AMD Zen 4, peers of that run or an earlier one. AVX2: moe on an Intel Xeon, peers on an "
                      "AMD Zen 3, each by its own limits.")
    drawing.legend([OURS, "best peer"] + names, colour_of, dots=names)
    for column, (title, storages) in enumerate(columns.items()):
        for row, storage in enumerate(BITS):
            own, peers = storages[storage]
            drawing.panel(column, row, f"{storage}, {title}", TOKENS,
                          {OURS: own, "best peer": {t: value for t, (value, _) in peers.items()}}, colour_of,
                          point_colour=lambda name, t: colour_of(peers[t][1] if name != OURS else name))
    return drawing.finish()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", nargs="*")
    parser.add_argument("--published", help="the page with the tables to draw --picture from, instead of runs")
    parser.add_argument("--table", help="write the Markdown here instead of to standard output")
    parser.add_argument("--picture", help="write the SVG here")
    parser.add_argument("--assignments", help="write the SVG of the cells assignment/... here")
    parser.add_argument("--threads", type=int, help="of the picture; default: the most there are")
    options = parser.parse_args()
    if options.published:
        return write(options.picture, published_picture(options.published))
    if not options.json:
        parser.error("the JSON of a run is missing")
    runs = Runs(options.json)
    if not runs.cells and not runs.other and not assignments(runs):
        sys.exit("no cell of the grid in these files")
    if options.table:
        write(options.table, table(runs))
    else:
        print(table(runs), end="")
    if options.assignments:
        write(options.assignments, assignment_picture(runs))
    if options.picture:
        write(options.picture, picture(runs, options.threads or max(runs.values("threads"))))


if __name__ == "__main__":
    main()
