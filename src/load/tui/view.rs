//! One frame of the live view: a pure function of the model.
//!
//! Invariant: nothing is told by colour alone (signs, words and places say the same), and without colour nothing is lost.
//! A terminal of any size gets a frame: below [`MIN_COLUMNS`] × [`MIN_ROWS`] a line that says so.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Padding, Paragraph, Wrap};

use super::model::{CpuShare, MEASURING, Model, WARMING_UP};
use super::{charts, interim};
use crate::measure::verdict::{Level, Verdict};
use crate::report::text;

pub(super) const MIN_COLUMNS: u16 = 60;
pub(super) const MIN_ROWS: u16 = 18;
/// From here on there is room for air and for several findings.
const ROOMY_ROWS: u16 = 24;
/// Findings shown beside the verdict, where there is room; the report has all.
const FINDINGS_MAX: usize = 3;
/// What the right-hand side needs at least.
const RIGHT_COLUMNS_MIN: u16 = 26;

/// Colours that people who see fewer of them can tell apart (after Okabe and Ito), or none.
pub(super) struct Palette {
    color: bool,
}

impl Palette {
    /// Colours unless `NO_COLOR` asks for none.
    pub(super) fn of_environment() -> Self {
        Self { color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    #[cfg(test)]
    pub(super) fn new(color: bool) -> Self {
        Self { color }
    }

    fn foreground(&self, index: u8) -> Style {
        if self.color { Style::new().fg(Color::Indexed(index)) } else { Style::new() }
    }

    /// The line of a chart, from the lowest: blue, green, orange, purple.
    pub(super) fn series(&self, index: usize) -> Style {
        self.foreground([32, 36, 172, 168][index])
    }

    /// What is there to be looked up.
    pub(super) fn quiet(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn level(&self, level: Level) -> Style {
        let index = match level {
            Level::Trusted => 36,
            Level::Suspect => 172,
            Level::Invalid => 160,
        };
        self.foreground(index).add_modifier(Modifier::BOLD)
    }
}

/// Draws the whole frame.
pub(super) fn draw(model: &Model, palette: &Palette, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < MIN_COLUMNS || area.height < MIN_ROWS {
        let line = format!("{}×{} is too small: {MIN_COLUMNS}×{MIN_ROWS} at least", area.width, area.height);
        frame.render_widget(Paragraph::new(line), area);
        return;
    }
    let verdict = interim::judge(model);
    let roomy = area.height >= ROOMY_ROWS;
    let verdict = verdict_lines(verdict.as_ref(), palette, if roomy { FINDINGS_MAX } else { 1 });
    let [title, work, progress, judgement, _, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(verdict.len() as u16),
        Constraint::Length(u16::from(roomy)),
        Constraint::Min(8),
        Constraint::Length(1),
    ])
    .horizontal_margin(1)
    .areas(area);
    draw_title(model, palette, frame, title);
    let engines = format!("{}; {}", model.header.workload, model.header.engines);
    frame.render_widget(Line::styled(engines, palette.quiet()), work);
    draw_progress(model, palette, frame, progress);
    frame.render_widget(Paragraph::new(verdict), judgement);
    let right_columns = (body.width * 2 / 5).max(RIGHT_COLUMNS_MIN);
    let [left, right] =
        Layout::horizontal([Constraint::Min(1), Constraint::Length(right_columns)]).spacing(2).areas(body);
    draw_left(model, palette, frame, left);
    draw_right(model, palette, frame, right);
    draw_keys(model, palette, frame, keys);
    if model.help {
        draw_help(frame, area);
    }
}

/// A titled rule; what is below it.
pub(super) fn panel(frame: &mut Frame<'_>, area: Rect, title: &str, aside: &str) -> Rect {
    let mut block = Block::new()
        .borders(Borders::TOP)
        .border_style(Style::new().add_modifier(Modifier::DIM))
        .title(Span::styled(format!("{title} "), Style::new().add_modifier(Modifier::BOLD)));
    if !aside.is_empty() && title.chars().count() + aside.chars().count() + 4 <= usize::from(area.width) {
        block = block.title(Line::from(format!(" {aside}")).alignment(Alignment::Right));
    }
    let inside = block.inner(area);
    frame.render_widget(block, area);
    inside
}

fn draw_title(model: &Model, palette: &Palette, frame: &mut Frame<'_>, area: Rect) {
    let header = &model.header;
    let seconds = |duration: Duration| format!("{:.1}", duration.as_secs_f64());
    let time = match model.phase {
        MEASURING => format!("  {} of {} s", seconds(model.measured()), seconds(header.duration)),
        _ => String::new(),
    };
    let phase = if model.ending { "ending" } else { model.phase };
    let right = Line::from(vec![Span::styled(phase, Style::new().add_modifier(Modifier::BOLD)), time.into()]);
    let [left, right_area] =
        Layout::horizontal([Constraint::Min(1), Constraint::Length(right.width() as u16)])
            .spacing(2)
            .areas(area);
    let target = format!("  {}", text::printable(&header.url));
    let aside = if header.server_cpus.is_empty() { "" } else { "  server in this process" };
    let title = Line::from(vec![
        Span::styled("ringsock-load", Style::new().add_modifier(Modifier::BOLD)),
        target.into(),
        Span::styled(aside, palette.quiet()),
    ]);
    frame.render_widget(title, left);
    frame.render_widget(right, right_area);
}

fn draw_progress(model: &Model, palette: &Palette, frame: &mut Frame<'_>, area: Rect) {
    let label = format!(" {:>3.0} %  {} left", 100.0 * model.progress(), left_s(model.remaining()));
    let width = area.width.saturating_sub(label.chars().count() as u16);
    let filled = (model.progress() * f64::from(width)).round() as usize;
    let line = Line::from(vec![
        Span::styled("━".repeat(filled), palette.series(0)),
        Span::styled("─".repeat(usize::from(width) - filled), palette.quiet()),
        Span::raw(label),
    ]);
    frame.render_widget(line, area);
}

/// Always of the same width.
fn left_s(remaining: Duration) -> String {
    let seconds = remaining.as_secs_f64();
    match seconds {
        _ if seconds < 600.0 => format!("{seconds:>5.1} s"),
        _ if seconds < 36_000.0 => format!("{:>3.0} min", seconds / 60.0),
        _ => format!("{:>5.1} h", seconds / 3_600.0),
    }
}

fn verdict_lines(verdict: Option<&Verdict>, palette: &Palette, findings_max: usize) -> Vec<Line<'static>> {
    let Some(verdict) = verdict else {
        return vec![Line::styled("○ no verdict yet", palette.quiet())];
    };
    let (sign, word) = match verdict.level {
        Level::Trusted => ("●", "TRUSTED so far"),
        Level::Suspect => ("▲", "SUSPECT so far"),
        Level::Invalid => ("■", "INVALID so far"),
    };
    let mut findings: Vec<_> =
        verdict.findings.iter().filter(|finding| finding.level > Level::Trusted).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let word = Span::styled(format!("{sign} {word}"), palette.level(verdict.level));
    let surplus = findings.len().saturating_sub(findings_max);
    let mut lines: Vec<Line<'static>> = Vec::new();
    for (index, finding) in findings.iter().take(findings_max).enumerate() {
        // In front, where no narrow terminal cuts it off.
        let more = match (index + 1 == findings_max, surplus) {
            (true, 1..) => format!("(+{surplus}) "),
            _ => String::new(),
        };
        let says = Span::raw(format!("  {more}{}", text::printable(&finding.says)));
        let first = if index == 0 { word.clone() } else { Span::raw(" ".repeat(word.width())) };
        lines.push(Line::from(vec![first, says]));
    }
    if lines.is_empty() {
        lines.push(Line::from(vec![
            word,
            Span::styled("  nothing seen that would bend the numbers", palette.quiet()),
        ]));
    }
    lines
}

fn draw_left(model: &Model, palette: &Palette, frame: &mut Frame<'_>, area: Rect) {
    let gap = u16::from(area.height >= ROOMY_ROWS - 2);
    let [rate, latency] =
        Layout::vertical([Constraint::Fill(2), Constraint::Fill(3)]).spacing(gap).areas(area);
    charts::rate(model, palette, frame, rate);
    charts::percentiles(model, palette, frame, latency);
    if !model.points.is_empty() {
        return;
    }
    let why = match model.phase {
        WARMING_UP => "warming up: nothing is measured yet".to_owned(),
        MEASURING => "waiting for the first figures".to_owned(),
        _ => model.notes.last().cloned().unwrap_or_default(),
    };
    let [middle] = Layout::vertical([Constraint::Length(2)]).flex(Flex::Center).areas(latency);
    let why = Paragraph::new(text::printable(&why)).alignment(Alignment::Center).wrap(Wrap { trim: true });
    frame.render_widget(why.style(palette.quiet()), middle);
}

fn draw_right(model: &Model, palette: &Palette, frame: &mut Frame<'_>, area: Rect) {
    const BOOKS_ROWS: u16 = 6;
    let spare = area.height.saturating_sub(BOOKS_ROWS + 5);
    let cpu_rows = (model.cpus.len() as u16).clamp(1, (spare / 2).max(1));
    let gap = u16::from(area.height >= BOOKS_ROWS + cpu_rows + 10);
    let [distribution, cpus, books] = Layout::vertical([
        Constraint::Min(4),
        Constraint::Length(1 + cpu_rows),
        Constraint::Length(BOOKS_ROWS),
    ])
    .spacing(gap)
    .areas(area);
    draw_distribution(model, palette, frame, distribution);
    draw_cpus(model, palette, frame, cpus);
    draw_books(model, palette, frame, books);
}

fn draw_distribution(model: &Model, palette: &Palette, frame: &mut Frame<'_>, area: Rect) {
    let counts = &model.whole.counts;
    let time = if model.header.is_open_loop() { "response times" } else { "service times" };
    let inside = panel(frame, area, &format!("{time} so far"), "");
    let total = counts.len();
    if total == 0 || inside.height == 0 {
        return;
    }
    let known = |value: Option<u64>| value.map_or("too few".to_owned(), charts::two_digits);
    let pair = |left: &str, a, right: &str, b| {
        Line::from(format!("{left} {:>8}   {right} {:>8}", known(a), known(b)))
    };
    let summary = vec![
        pair("p50  ", counts.percentile_ns(0.5), "p90", counts.percentile_ns(0.9)),
        pair("p99  ", counts.percentile_ns(0.99), "max", counts.max_ns()),
    ];
    let summary_rows = if inside.height >= 7 { 2 } else { 0 };
    let [top, bars] = Layout::vertical([Constraint::Length(summary_rows), Constraint::Min(1)]).areas(inside);
    frame.render_widget(Paragraph::new(summary), top);
    let steps = steps(&counts.iter().collect::<Vec<_>>(), bars.height.into());
    let largest = steps.iter().map(|step| step.count).max().unwrap_or(1).max(1);
    const LABEL_COLUMNS: u16 = 20;
    let bar_columns = usize::from(bars.width.saturating_sub(LABEL_COLUMNS));
    let lines = steps.iter().map(|step| {
        let share = step.count as f64 / total as f64;
        let share = match 100.0 * share {
            percent if percent > 0.0 && percent < 0.005 => "<0.01 %".to_owned(),
            percent => format!("{percent:.2} %"),
        };
        Line::from(vec![
            Span::raw(format!("{:>10} {share:>8} ", range(step))),
            Span::styled(bar(step.count as f64 / largest as f64, bar_columns), palette.series(0)),
        ])
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), bars);
}

/// Durations between two round numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    from_ns: u64,
    to_ns: u64,
    count: u64,
}

/// `200–500 µs`, `0.5–1 ms`; from nothing, `< 10 ms`.
fn range(step: &Step) -> String {
    let units = [("ns", 1), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
    let (unit, unit_ns) =
        units.into_iter().rfind(|&(_, unit_ns)| step.to_ns >= unit_ns).expect("1 ns at least");
    let to = step.to_ns / unit_ns;
    match step.from_ns {
        0 => format!("< {to} {unit}"),
        from_ns => format!("{}–{to} {unit}", from_ns as f64 / unit_ns as f64),
    }
}

/// Counts by steps of 1, 2 and 5, or coarser ones where there would be more than `rows_max`; the lowest are put together
/// if there are still too many. Empty ones between others are kept.
fn steps(values: &[(u64, u64)], rows_max: usize) -> Vec<Step> {
    for starts in [&[1, 2, 5][..], &[1, 3]] {
        let steps = steps_between(values, starts);
        if steps.len() <= rows_max {
            return steps;
        }
    }
    let mut coarse = steps_between(values, &[1]);
    let surplus = coarse.len().saturating_sub(rows_max.max(1));
    let below: u64 = coarse.drain(..surplus).map(|step| step.count).sum();
    if surplus > 0 {
        coarse[0].from_ns = 0;
        coarse[0].count += below;
    }
    coarse
}

fn steps_between(values: &[(u64, u64)], starts: &[u64]) -> Vec<Step> {
    let bounds: Vec<u64> =
        (0..14).flat_map(|decade| starts.iter().map(move |start| start * 10_u64.pow(decade))).collect();
    let mut steps: Vec<Step> =
        bounds.windows(2).map(|bound| Step { from_ns: bound[0], to_ns: bound[1], count: 0 }).collect();
    for &(value_ns, count) in values {
        let at = steps.partition_point(|step| step.from_ns <= value_ns).saturating_sub(1);
        steps[at].count += count;
    }
    let first = steps.iter().position(|step| step.count > 0).unwrap_or(0);
    let last = steps.iter().rposition(|step| step.count > 0).unwrap_or(0);
    steps[first..=last].to_vec()
}

/// A bar that fills `columns` at 1; never empty for what is not nought.
fn bar(share: f64, columns: usize) -> String {
    let eighths = (share * columns as f64 * 8.0).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + rest
}

fn draw_cpus(model: &Model, palette: &Palette, frame: &mut Frame<'_>, area: Rect) {
    let inside = panel(frame, area, "CPUs", "busy stolen");
    let ours = |share: &CpuShare| role(model, share.cpu).is_empty();
    let mut shares = model.cpus.clone();
    let rows = usize::from(inside.height);
    if shares.len() > rows {
        shares.sort_by(|a, b| ours(a).cmp(&ours(b)).then(b.busy.total_cmp(&a.busy)));
    }
    let shown = if shares.len() > rows { rows.saturating_sub(1).max(1) } else { rows };
    let mut lines: Vec<Line<'_>> =
        shares.iter().take(shown).map(|share| cpu_line(model, palette, share, inside.width)).collect();
    if let Some(busiest) = shares.get(shown).filter(|_| rows > 1) {
        let others = shares.len() - shown;
        let line = format!("{others} more, the busiest at {:.0} %", 100.0 * busiest.busy);
        lines.push(Line::styled(line, palette.quiet()));
    }
    frame.render_widget(Paragraph::new(lines), inside);
}

/// Whose CPU it is.
fn role(model: &Model, cpu: usize) -> &'static str {
    match (model.header.load_cpus.contains(&cpu), model.header.server_cpus.contains(&cpu)) {
        (true, true) => "both",
        (true, false) => "load",
        (false, true) => "server",
        (false, false) => "",
    }
}

fn cpu_line<'a>(model: &Model, palette: &Palette, share: &CpuShare, width: u16) -> Line<'a> {
    let label = format!("{:<3} {:<6} ", share.cpu, role(model, share.cpu));
    let figures = format!(" {:>3.0} % {:>4.1} %", 100.0 * share.busy, 100.0 * share.steal);
    let columns = usize::from(width).saturating_sub(label.len() + figures.len());
    let busy = bar(share.busy, columns);
    let left = columns.saturating_sub(busy.chars().count());
    let stolen = ((share.steal * columns as f64).round() as usize).min(left);
    let steal_style = match share.steal > interim::STEAL_SHARE_MAX {
        true => palette.level(Level::Suspect),
        false => Style::new(),
    };
    Line::from(vec![
        Span::raw(label),
        Span::styled(busy, palette.series(0)),
        Span::styled("░".repeat(stolen), steal_style),
        Span::styled("·".repeat(left - stolen), palette.quiet()),
        Span::raw(figures[..6].to_owned()),
        Span::styled(figures[6..].to_owned(), steal_style),
    ])
}

fn draw_books(model: &Model, palette: &Palette, frame: &mut Frame<'_>, area: Rect) {
    let inside = panel(frame, area, "messages", "");
    let whole = &model.whole;
    let late = model.lagging_share();
    let late_text = late.map_or("–".to_owned(), |share| format!("{:.2} %", 100.0 * share));
    let fine = Style::new();
    let warn = |holds: bool, level| if holds { fine } else { palette.level(level) };
    let late_fine = late.is_none_or(|share| share <= interim::LAGGING_SHARE_MAX);
    let bound = format!("late (> {})", text::duration_ns(model.header.lag_bound_ns));
    let rows = [
        ("sent", text::count(whole.sent), fine),
        ("answered", text::count(whole.answered), fine),
        ("outstanding", text::count(model.outstanding()), fine),
        ("errors", text::count(whole.errors), warn(whole.errors == 0, Level::Invalid)),
        (bound.as_str(), late_text, warn(late_fine, Level::Suspect)),
    ];
    let width = usize::from(inside.width);
    let lines = rows.iter().map(|(label, value, style)| {
        let value_columns = width.saturating_sub(label.chars().count());
        Line::styled(format!("{label}{value:>value_columns$}"), *style)
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), inside);
}

fn draw_keys(model: &Model, palette: &Palette, frame: &mut Frame<'_>, area: Rect) {
    let keys = match (model.ending, model.paused) {
        (true, _) => "waiting for the last answers; q again: leave at once, saving nothing",
        (false, true) => "PAUSED: the run goes on   p go on drawing   q end now   ? help",
        (false, false) => "q end now, with a report   p pause drawing   ? help",
    };
    let style = if model.paused || model.ending { Style::new() } else { palette.quiet() };
    frame.render_widget(Line::styled(keys, style), area);
}

const HELP: &str = "\
q, Ctrl-C  end the measurement now and report it;
           again: leave at once, saving nothing
p          stop drawing; the run goes on
?          this text

response   from when a message was to be sent until
           it was answered
service    from when it was sent (closed loop)
late       by the generator's own fault
stolen     given to other machines by the hypervisor
so far     as it can be judged now; the report's
           verdict sees more";

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let columns = HELP.lines().map(|line| line.chars().count()).max().unwrap_or(0) as u16 + 4;
    let rows = HELP.lines().count() as u16 + 2;
    let [row] = Layout::vertical([Constraint::Length(rows)]).flex(Flex::Center).areas(area);
    let [popup] = Layout::horizontal([Constraint::Length(columns)]).flex(Flex::Center).areas(row);
    let block = Block::bordered().title(" help ").padding(Padding::horizontal(1));
    frame.render_widget(Clear, popup);
    frame.render_widget(Paragraph::new(HELP).block(block), popup);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lose_no_count_however_few_rows_there_are() {
        let values: Vec<_> = (0..30).map(|n| (3_u64 << n, 10 + n)).collect();
        let total: u64 = values.iter().map(|value| value.1).sum();
        for rows in 1..40 {
            let steps = steps(&values, rows);
            assert!(steps.len() <= rows, "{} steps in {rows} rows", steps.len());
            assert_eq!(steps.iter().map(|step| step.count).sum::<u64>(), total, "{rows} rows");
            assert!(steps.windows(2).all(|pair| pair[0].to_ns == pair[1].from_ns), "{rows} rows: {steps:?}");
        }
    }

    #[test]
    fn steps_are_named_as_ranges() {
        let named = |values: &[(u64, u64)], rows| steps(values, rows).iter().map(range).collect::<Vec<_>>();
        let values = [(240_000, 1), (700_000, 2), (1_900_000, 3)];
        assert_eq!(named(&values, 9), ["200–500 µs", "0.5–1 ms", "1–2 ms"]);
        assert_eq!(named(&values[1..], 2), ["0.5–1 ms", "1–2 ms"]);
        assert_eq!(
            named(&[(240_000, 1), (1_900_000, 3), (2_100_000, 1)], 3),
            ["100–300 µs", "0.3–1 ms", "1–3 ms"]
        );
        assert_eq!(named(&values, 2), ["0.1–1 ms", "1–10 ms"]);
        assert_eq!(named(&values, 1), ["< 10 ms"]);
        assert_eq!(named(&[(5, 1), (3_600_000_000_000, 1)], 1), ["< 10000 s"]);
    }
}
