//! What a terminal shows while a load runs: a few lines that are drawn over each other; where there is no terminal, a line every few seconds.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use simulator::load::{Fate, Latencies};
use simulator::scenario::judge::FINALIZED;
use simulator::topology::ChainKind;
use tokio::task::AbortHandle;

use super::drive::Board;

/// How often a terminal is drawn.
const FRAME: Duration = Duration::from_millis(500);
/// How often a line is printed where there is no terminal.
const LINE: Duration = Duration::from_secs(5);
/// How far back the rate is counted, in milliseconds.
const WINDOW_MS: u64 = 5_000;

/// A view that goes on by itself.
pub(crate) struct Shown(AbortHandle);

impl Shown {
    /// Ends it.
    pub(crate) fn end(self) {
        self.0.abort();
    }
}

/// Shows a board until it is ended.
pub(crate) fn show(board: Arc<Board>) -> Shown {
    let terminal = std::io::stdout().is_terminal();
    let task = tokio::spawn(async move {
        let mut drawn = 0;
        let mut ticks = tokio::time::interval(if terminal { FRAME } else { LINE });
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let now = board.elapsed_ms();
            if terminal {
                let rows = board.look(|fates| table(fates, now));
                let up = if drawn > 0 { format!("\x1b[{drawn}A\x1b[J") } else { String::new() };
                drawn = rows.len();
                println!("{up}{}", rows.join("\n"));
                let _ = std::io::stdout().flush(); // a terminal that is gone sees nothing
            } else {
                println!("{}", board.look(|fates| line(fates, now)));
            }
        }
    });
    Shown(task.abort_handle())
}

/// How far the payments are.
#[derive(Default)]
struct Counts {
    due: u64,
    taken: u64,
    open: u64,
    done: u64,
    other: u64,
    recent: u64,
    times: Latencies,
}

impl Counts {
    fn of<'a>(fates: impl Iterator<Item = &'a Fate>, now: u64) -> Self {
        let mut counts = Self::default();
        for fate in fates.filter(|fate| fate.order.at_ms <= now) {
            let add = |count: &mut u64, is: bool| *count = count.saturating_add(u64::from(is));
            add(&mut counts.due, true);
            add(&mut counts.taken, fate.record.is_some());
            add(&mut counts.open, !fate.ended);
            let is_final = fate.ended && fate.state == FINALIZED;
            add(&mut counts.done, is_final);
            add(&mut counts.other, fate.ended && !is_final);
            if let (true, Some(took)) = (is_final, fate.took(FINALIZED)) {
                counts.times.record(took);
                let at = fate.order.at_ms.saturating_add(took);
                add(&mut counts.recent, at.saturating_add(WINDOW_MS) >= now);
            }
        }
        counts
    }

    /// How many became final in a second, p50 and p99.
    fn shown(&self) -> [String; 3] {
        let tenths = self.recent.saturating_mul(10_000) / WINDOW_MS;
        let seconds = |time: u64| format!("{}.{} s", time / 1_000, time % 1_000 / 100);
        let times = self.times.percentiles();
        let [p50, p99] =
            times.map_or(["-".to_owned(), "-".to_owned()], |times| [seconds(times.p50), seconds(times.p99)]);
        [format!("{}.{}", tenths / 10, tenths % 10), p50, p99]
    }
}

/// A line for each chain under a head.
fn table(fates: &[Fate], now: u64) -> Vec<String> {
    let mut chains: Vec<ChainKind> = fates.iter().map(|fate| fate.order.chain).collect();
    chains.sort_unstable();
    chains.dedup();
    let time = format!("{} s", now / 1_000);
    let head = format!(
        "{time:<10}{:>8}{:>8}{:>8}{:>8}{:>8}{:>9}{:>9}{:>9}",
        "due", "taken", "open", "final", "other", "final/s", "p50", "p99"
    );
    let row = |chain: ChainKind| {
        let counts = Counts::of(fates.iter().filter(|fate| fate.order.chain == chain), now);
        let [rate, p50, p99] = counts.shown();
        let Counts { due, taken, open, done, other, .. } = counts;
        format!("{:<10}{due:>8}{taken:>8}{open:>8}{done:>8}{other:>8}{rate:>9}{p50:>9}{p99:>9}", chain.name())
    };
    std::iter::once(head).chain(chains.into_iter().map(row)).collect()
}

/// All chains in one line.
fn line(fates: &[Fate], now: u64) -> String {
    let counts = Counts::of(fates.iter(), now);
    let [rate, p50, p99] = counts.shown();
    let Counts { due, taken, open, done, other, .. } = counts;
    let time = now / 1_000;
    format!(
        "{time:>4} s  {due} due, {taken} taken, {open} open, {done} final, {other} ended otherwise; {rate}/s, p50 {p50}, p99 {p99}"
    )
}
