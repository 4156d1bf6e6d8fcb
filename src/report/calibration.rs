//! A calibration, as its reader sees it when it ends. It is of punctuality, and so of real time always.

use super::Style;
use super::text::{duration, duration_ns, percentile, printable, rate, size, table};
use crate::measure::calibration::Calibration;
use crate::measure::environment::Clock;
use crate::measure::histogram::{maximum_ns, percentile_ns};

/// The whole report, ending in a newline.
pub fn render(calibration: &Calibration, style: Style) -> String {
    let generator = &calibration.generator;
    let spin = if generator.spin { ", spinning" } else { "" };
    let kernel = calibration.environment.kernel.release.as_deref().unwrap_or("of unknown release");
    let title = format!(
        "calibration of the generator: one thread of {}{spin} on CPU {}, null server on CPU {}, {} connections, {}",
        generator.engine,
        generator.cpus[0],
        generator.cpus[1],
        generator.connections,
        size(generator.payload_bytes)
    );
    let mut text = format!("{}\non Linux {}\n\n", style.bold(&printable(&title)), printable(kernel));
    for (label, overhead) in
        std::iter::once("CPU a message").chain(std::iter::repeat("")).zip(&calibration.overhead)
    {
        text.push_str(&format!(
            "{label:<17}{} with {} in flight: {:.3} of a loop that only moves the same bytes ({})\n",
            duration(overhead.generator_ns),
            overhead.pipeline,
            overhead.ratio,
            duration(overhead.loop_ns)
        ));
    }
    let at = |quantile| percentile(percentile_ns(&calibration.precision, quantile), Clock::Real);
    text.push_str(&format!(
        "punctual within  {} (p50), {} (p99), {} (max) for a message a millisecond\n",
        at(0.5),
        at(0.99),
        maximum_ns(&calibration.precision).map_or("-".to_owned(), duration_ns)
    ));
    let bound = duration_ns(calibration.lag_bound_ns);
    text.push_str(&match calibration.rate_max_per_s {
        Some(rate_per_s) => {
            format!("keeps up to      {}: p99 of lag within {bound}\n", rate(rate_per_s))
        }
        None => format!("keeps up to      no rate: p99 of lag is beyond {bound} at every one; a quieter machine, or --spin\n"),
    });
    if let Some(half) = &calibration.at_half {
        let at = |histogram, quantile| percentile(percentile_ns(histogram, quantile), Clock::Real);
        text.push_str(&format!("at half of that  {:.0} % of its CPU\n\n", 100.0 * half.cpu_share));
        let row = |label: &str, quantile| {
            vec![label.to_owned(), at(&half.response, quantile), at(&half.lag, quantile)]
        };
        text.push_str(&table(&[
            ["", "null server's response", "generator lag"].map(str::to_owned).to_vec(),
            row("p50", 0.5),
            row("p99", 0.99),
            row("p99.9", 0.999),
        ]));
        text.push_str(
            "At that rate, no server on this machine can be measured as faster; at a lower one, it may.\n",
        );
    }
    text
}
