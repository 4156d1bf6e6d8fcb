"""Exports, as Python's readers of them see them, in JSON on standard output.

read_exports.py hlog FILE         hdrhistogram: each row with its tag and times, and every value of the untagged ones, merged
read_exports.py write-hlog FILE   hdrhistogram writes a log of its own; standard output says what is in it
read_exports.py hdr-plot FILE     hdr-plot: the rows of its table and what its footer says
read_exports.py prometheus FILE   prometheus-client: each family's type and samples
"""

import json
import sys
import types


def recorded(histogram):
    return [[int(it.value_iterated_to), int(it.count_at_value_iterated_to)] for it in histogram.get_recorded_iterator()]


def hlog(path):
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogReader

    merged = HdrHistogram(1, 3_600_000_000_000, 3)
    reader = HistogramLogReader(path, merged)
    rows = []
    while (row := reader.get_next_interval_histogram()) is not None:
        tag = getattr(row, "tag", None)
        rows.append([tag, row.get_start_time_stamp(), row.get_end_time_stamp(), row.get_total_count()])
        if tag is None:
            merged.add(row)
    return {"rows": rows, "start_s": reader.get_start_time_sec(), "recorded": recorded(merged)}


def write_hlog(path):
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogWriter

    # Bounds and digits unlike ours.
    merged = HdrHistogram(1, 60_000_000_000, 2)
    with open(path, "w", encoding="ascii") as file:
        writer = HistogramLogWriter(file)
        writer.output_comment("[Logged with hdrh]")
        writer.output_log_format_version()
        writer.output_legend()
        for second in range(3):
            row = HdrHistogram(1, 60_000_000_000, 2)
            for value in range(1, 2_000):
                row.record_value(value * value * (second + 1))
            writer.output_interval_histogram(row, second + 1, second + 2)
            merged.add(row)
    return {"recorded": recorded(merged)}


def hdr_plot(path):
    # Its module plots as well; its parser needs of pandas no more than this.
    frame = types.SimpleNamespace(DataFrame=lambda rows, columns: [dict(zip(columns, row)) for row in rows])
    absent = types.ModuleType("absent")
    for name in ("matplotlib", "matplotlib.pyplot", "matplotlib.ticker", "pkg_resources"):
        sys.modules[name] = absent
    absent.pyplot = absent.ticker = absent
    sys.modules["pandas"] = frame
    from hdr_plot import hdr_plot as plot

    return {"rows": plot.parse_percentiles(path), "footer": plot.parse_metadata(path)}


def prometheus(path):
    from prometheus_client.parser import text_string_to_metric_families

    with open(path, encoding="utf-8") as file:
        families = list(text_string_to_metric_families(file.read()))
    return [[it.name, it.type, it.documentation, [[s.name, s.labels, str(s.value)] for s in it.samples]] for it in families]


READERS = {"hlog": hlog, "write-hlog": write_hlog, "hdr-plot": hdr_plot, "prometheus": prometheus}
print(json.dumps(READERS[sys.argv[1]](sys.argv[2])))
