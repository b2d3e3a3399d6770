//! Charts as inline SVG, in whole numbers throughout: lengths are counted in tenths of a unit. All charts over time have the same width and the
//! same edges, so that they line up.

use std::fmt::Write as _;

use super::{ChainReport, FaultSpan, Report, Stage};
use crate::load::Percentiles;

/// The charts' width.
pub(super) const WIDTH: u64 = 1_000;
/// Where the time axis begins and ends.
pub(super) const LEFT: u64 = 46;
/// Where the time axis ends.
pub(super) const RIGHT: u64 = 992;

/// Room above a plot, for the largest label.
const TOP: u64 = 8;
/// Room below it, for the time axis.
const BOTTOM: u64 = 20;
/// A fault's line, and the bar in it.
const LANE: u64 = 34;
const LANE_BAR: u64 = 10;
/// A stage's line.
const ROW: u64 = 25;
/// Where stages begin, and where their values end.
const STAGES_LEFT: u64 = 190;
const STAGES_RIGHT: u64 = 830;
/// At most so many labels on the time axis.
const MOST_LABELS: u64 = 12;
/// Steps between labels of the time axis, in milliseconds.
const LABEL_STEPS: [u64; 10] = [1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000];

/// A length in tenths, as SVG writes it.
struct Tenths(u64);

impl std::fmt::Display for Tenths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "{}", self.0 / 10),
            tenth => write!(f, "{}.{tenth}", self.0 / 10),
        }
    }
}

/// `value` of `whole` on a length that begins at `from` and ends at `to`.
fn scale(value: u64, whole: u64, from: u64, to: u64) -> Tenths {
    let length = u128::from(to.saturating_sub(from)).saturating_mul(10);
    let part = u128::from(value.min(whole)).saturating_mul(length).checked_div(whole.into()).unwrap_or_default();
    Tenths(u64::try_from(part).unwrap_or(u64::MAX).saturating_add(from.saturating_mul(10)))
}

/// Where a moment is.
fn x(report: &Report, at_ms: u64) -> Tenths {
    scale(at_ms, report.end_ms.max(1), LEFT, RIGHT)
}

/// How high a value is in a plot of this height, from above.
fn y(value: u64, most: u64, height: u64) -> Tenths {
    let up = scale(value, most.max(1), 0, height.saturating_sub(TOP));
    Tenths(height.saturating_mul(10).saturating_sub(up.0))
}

/// The least number of one, two or five times a power of ten that isn't below `value`.
fn round_up(value: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for factor in [1, 2, 5] {
            let round = power.saturating_mul(factor);
            if round >= value {
                return round;
            }
        }
        power = power.saturating_mul(10);
    }
}

fn open(svg: &mut String, class: &str, height: u64, label: &str) -> std::fmt::Result {
    write!(
        svg,
        "<svg class=\"{class}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(label)
    )
}

/// Where faults are, behind a plot.
fn shades(svg: &mut String, report: &Report, height: u64) -> std::fmt::Result {
    for fault in &report.faults {
        let (from, to) = ends(report, fault);
        let width = Tenths(to.0.saturating_sub(from.0));
        write!(svg, "<rect class=\"shade\" x=\"{from}\" y=\"0\" width=\"{width}\" height=\"{height}\"/>")?;
    }
    Ok(())
}

/// Where a fault begins and ends; what is done at once has a width, too.
fn ends(report: &Report, fault: &FaultSpan) -> (Tenths, Tenths) {
    let from = x(report, fault.from_ms);
    let to = x(report, fault.to_ms.unwrap_or(report.end_ms));
    let least = from.0.saturating_add(40);
    (from, Tenths(to.0.max(least).min(RIGHT.saturating_mul(10).max(least))))
}

/// The time axis under a plot, and the line that follows the pointer.
fn time_axis(svg: &mut String, report: &Report, height: u64, labels: bool) -> std::fmt::Result {
    write!(svg, "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{height}\" y2=\"{height}\"/>")?;
    if labels {
        let fits = |step: &u64| report.end_ms / step <= MOST_LABELS;
        let step = LABEL_STEPS.into_iter().find(fits).unwrap_or(3_600_000);
        let mut at = 0;
        while at <= report.end_ms {
            let (x, y) = (x(report, at), height.saturating_add(15));
            write!(svg, "<text class=\"middle\" x=\"{x}\" y=\"{y}\">{} s</text>", at / 1_000)?;
            at = at.saturating_add(step);
        }
    }
    write!(svg, "<line class=\"cursor\" x1=\"0\" x2=\"0\" y1=\"0\" y2=\"{height}\"/></svg>")
}

/// Lines at a value's half and whole.
fn value_axis(svg: &mut String, most: u64, height: u64, shown: impl Fn(u64) -> String) -> std::fmt::Result {
    let edge = LEFT.saturating_sub(8);
    for value in [most / 2, most] {
        let at = y(value, most, height);
        let text = Tenths(at.0.saturating_add(40));
        write!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at}\" y2=\"{at}\"/>")?;
        write!(svg, "<text class=\"end\" x=\"{edge}\" y=\"{text}\">{}</text>", shown(value))?;
    }
    write!(svg, "<text class=\"end\" x=\"{edge}\" y=\"{height}\">0</text>")
}

/// What went wrong and when, one line for each fault.
pub(super) fn faults(svg: &mut String, report: &Report) -> std::fmt::Result {
    let lanes = u64::try_from(report.faults.len()).unwrap_or_default();
    let height = LANE.saturating_mul(lanes).saturating_add(4);
    open(svg, "timed", height.saturating_add(BOTTOM), "Faults over time")?;
    for (lane, fault) in (0_u64..).zip(&report.faults) {
        let top = LANE.saturating_mul(lane);
        let (from, to) = ends(report, fault);
        let width = Tenths(to.0.saturating_sub(from.0));
        let (text, bar) = (top.saturating_add(13), top.saturating_add(18));
        // A label that begins late ends where its bar ends.
        let late = from.0 > RIGHT.saturating_mul(5);
        let (class, at) = if late { ("strong end", &to) } else { ("strong", &from) };
        let struck = match fault.strikes {
            0 => String::new(),
            1 => ", struck once".to_owned(),
            strikes => format!(", struck {strikes} times"),
        };
        write!(
            svg,
            "<text class=\"{class}\" x=\"{at}\" y=\"{text}\">{} <tspan class=\"what\" fill=\"var(--soft)\">{} · {}{struck}</tspan></text>",
            escape(&fault.name),
            escape(&fault.what),
            escape(&fault.place)
        )?;
        let class = if fault.to_ms.is_none() { "fault open" } else { "fault" };
        write!(
            svg,
            "<rect class=\"{class}\" x=\"{from}\" y=\"{bar}\" width=\"{width}\" height=\"{LANE_BAR}\" rx=\"3\"/>"
        )?;
        if fault.to_ms != Some(fault.from_ms) {
            let end = bar.saturating_add(LANE_BAR);
            for struck in &fault.struck {
                let x = x(report, struck.at_ms);
                write!(svg, "<line class=\"strike\" x1=\"{x}\" x2=\"{x}\" y1=\"{bar}\" y2=\"{end}\"/>")?;
            }
        }
    }
    time_axis(svg, report, height, true)
}

/// What became final in each step, chain upon chain, and what was due.
pub(super) fn throughput(svg: &mut String, report: &Report) -> std::fmt::Result {
    let height = 150;
    let steps = report.chains.first().map_or(0, |chain| chain.intended.len());
    let sum = |of: fn(&ChainReport) -> &Vec<u64>, step: usize| {
        report
            .chains
            .iter()
            .filter_map(|chain| of(chain).get(step))
            .fold(0_u64, |sum, count| sum.saturating_add(*count))
    };
    let all = (0..steps).map(|step| sum(|chain| &chain.intended, step).max(sum(|chain| &chain.finalized, step)));
    let most = round_up(all.max().unwrap_or_default().max(2));
    open(svg, "timed", height + BOTTOM, "Payments over time")?;
    shades(svg, report, height)?;
    value_axis(svg, most, height, |value| value.to_string())?;
    let mut below = vec![0_u64; steps];
    for chain in &report.chains {
        write!(svg, "<g class=\"c-{} toggled\">", chain.chain)?;
        for ((at, base), count) in (0_u64..).zip(&mut below).zip(&chain.finalized) {
            if *count == 0 {
                continue;
            }
            let from = x(report, at.saturating_mul(report.step_ms));
            let to = x(report, at.saturating_add(1).saturating_mul(report.step_ms));
            let width = Tenths(to.0.saturating_sub(from.0).saturating_sub(10).max(5));
            let (top, floor) = (y(base.saturating_add(*count), most, height), y(*base, most, height));
            let tall = Tenths(floor.0.saturating_sub(top.0));
            write!(svg, "<rect class=\"bar\" x=\"{from}\" y=\"{top}\" width=\"{width}\" height=\"{tall}\" rx=\"1\"/>")?;
            *base = base.saturating_add(*count);
        }
        svg.push_str("</g>");
    }
    let mut path = String::new();
    for (at, step) in (0_u64..).zip(0..steps) {
        let level = y(sum(|chain| &chain.intended, step), most, height);
        let to = x(report, at.saturating_add(1).saturating_mul(report.step_ms));
        match at {
            0 => write!(path, "M{LEFT} {level}H{to}")?,
            _ => write!(path, "V{level}H{to}")?,
        }
    }
    write!(svg, "<path class=\"intended\" d=\"{path}\"/>")?;
    time_axis(svg, report, height, true)
}

/// How long payments took that were due in each step.
pub(super) fn latency(svg: &mut String, report: &Report, chain: &ChainReport) -> std::fmt::Result {
    let height = 120;
    let points: Vec<(u64, Percentiles)> = (0_u64..)
        .zip(&chain.latency)
        .filter_map(|(at, times)| {
            Some((at.saturating_mul(report.step_ms).saturating_add(report.step_ms / 2), (*times)?))
        })
        .collect();
    let most = round_up(points.iter().map(|(_, times)| times.p99).max().unwrap_or_default().max(100));
    open(svg, "timed", height + BOTTOM, &format!("Latency of {} over time", chain.chain))?;
    shades(svg, report, height)?;
    value_axis(svg, most, height, super::text::seconds)?;
    let line = |of: fn(&Percentiles) -> u64| -> String {
        let at = |(at, times): &(u64, Percentiles)| format!("{} {}", x(report, *at), y(of(times), most, height));
        points.iter().map(at).collect::<Vec<_>>().join("L")
    };
    write!(svg, "<g class=\"c-{}\">", chain.chain)?;
    if points.len() > 1 {
        let back = |(at, times): &(u64, Percentiles)| format!("{} {}", x(report, *at), y(times.p50, most, height));
        let under: Vec<_> = points.iter().rev().map(back).collect();
        write!(svg, "<path class=\"band\" d=\"M{}L{}Z\"/>", line(|times| times.p99), under.join("L"))?;
        write!(svg, "<path class=\"p99\" d=\"M{}\"/>", line(|times| times.p99))?;
        write!(svg, "<path class=\"p90\" d=\"M{}\"/>", line(|times| times.p90))?;
        write!(svg, "<path class=\"p50\" d=\"M{}\"/>", line(|times| times.p50))?;
    }
    for (at, times) in &points {
        write!(
            svg,
            "<circle class=\"dot\" cx=\"{}\" cy=\"{}\" r=\"2.4\"/>",
            x(report, *at),
            y(times.p50, most, height)
        )?;
    }
    svg.push_str("</g>");
    time_axis(svg, report, height, true)
}

/// The stages of a chain's payments, each where the ones before it end: half of the payments took at most the bar, nine in ten at most the
/// line behind it. `most` is where the scale ends, in milliseconds.
pub(super) fn stages(svg: &mut String, chain: &ChainReport, most: u64) -> std::fmt::Result {
    let rows = u64::try_from(chain.stages.len()).unwrap_or_default();
    let height = ROW.saturating_mul(rows).saturating_add(4);
    open(svg, &format!("c-{}", chain.chain), height, &format!("Stages of {}", chain.chain))?;
    let mut begun = 0_u64;
    for (row, Stage { name, took }) in (0_u64..).zip(&chain.stages) {
        let top = ROW.saturating_mul(row);
        let (text, bar, middle) = (top.saturating_add(16), top.saturating_add(5), top.saturating_add(12));
        let at = |ms: u64| scale(ms, most.max(1), STAGES_LEFT, STAGES_RIGHT);
        let (from, to, late) = (at(begun), at(begun.saturating_add(took.p50)), at(begun.saturating_add(took.p90)));
        let width = Tenths(to.0.saturating_sub(from.0).max(15));
        let (label, value) = (STAGES_LEFT.saturating_sub(12), STAGES_RIGHT.saturating_add(14));
        write!(
            svg,
            "<line class=\"grid\" x1=\"{STAGES_LEFT}\" x2=\"{STAGES_RIGHT}\" y1=\"{middle}\" y2=\"{middle}\"/>"
        )?;
        write!(svg, "<text class=\"strong end\" x=\"{label}\" y=\"{text}\">{}</text>", escape(name))?;
        write!(svg, "<line class=\"whisker\" x1=\"{to}\" x2=\"{late}\" y1=\"{middle}\" y2=\"{middle}\"/>")?;
        write!(svg, "<rect class=\"stage\" x=\"{from}\" y=\"{bar}\" width=\"{width}\" height=\"14\" rx=\"2.5\"/>")?;
        let (p50, p90) = (super::text::seconds(took.p50), super::text::seconds(took.p90));
        write!(
            svg,
            "<text class=\"strong\" x=\"{value}\" y=\"{text}\">{p50}<tspan fill=\"var(--faint)\">, p90 {p90}</tspan></text>"
        )?;
        begun = begun.saturating_add(took.p50);
    }
    svg.push_str("</svg>");
    Ok(())
}

/// Where the scale of a chain's stages has to end.
pub(super) fn stages_end(chain: &ChainReport) -> u64 {
    let (mut begun, mut end) = (0_u64, 0_u64);
    for Stage { took, .. } in &chain.stages {
        end = end.max(begun.saturating_add(took.p90));
        begun = begun.saturating_add(took.p50);
    }
    end.max(begun)
}

/// A text as HTML and attributes have it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}
