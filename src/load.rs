//! `portcullis load`: payments at a fixed schedule against a running gateway, each followed to its end.
//!
//! - [`book`]: an order as the gateway is asked for it: which wallet pays whom;
//! - [`drive`]: asks at each order's moment, whatever became of the others, and follows what was asked for;
//! - [`live`]: what the terminal shows meanwhile.

pub(crate) mod book;
pub(crate) mod drive;
pub(crate) mod live;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rand_core::{OsRng, RngCore};
use signer::roster::{Audience, CredentialId};
use simulator::load::{Mix, Wave, orders};
use simulator::report::{Fact, Report, Told, build, html, summary};
use simulator::seed::Seed;
use simulator::topology::ChainKind;

use self::book::Book;
use self::drive::{Board, Course};
use crate::cli::Failure;
use crate::client::GatewayClient;
use crate::config::Config;
use crate::serve;

/// What to ask, how fast, of whom.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The gateway's endpoint.
    #[arg(long, env = "PORTCULLIS_URL", default_value = "http://127.0.0.1:8645")]
    url: String,
    /// The name of your credential.
    #[arg(long, env = "PORTCULLIS_CREDENTIAL", default_value = "demo-trader")]
    credential: CredentialId,
    /// The file with its private key, PEM.
    #[arg(long, env = "PORTCULLIS_KEY", default_value = "portcullis-data/demo/demo-trader.key")]
    key: PathBuf,
    /// The name of the gateway's deployment, where it has one.
    #[arg(long, env = "PORTCULLIS_AUDIENCE")]
    audience: Option<Audience>,
    /// The gateway's configuration: its rules name who may be paid. As shipped, if left out.
    #[arg(long, env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// How many payments: 5/s, 90/m; a bare number is by the second. Spread evenly over the chains.
    #[arg(long, default_value = "2/s")]
    rate: Rate,
    /// For how long they are asked for: 60s, 5m.
    #[arg(long = "for", default_value = "60s", value_parser = length)]
    lasts: Duration,
    /// Of which kinds, by weight.
    #[arg(long, default_value = "transfers=70,tokens=20,calls=10")]
    mix: Mix,
    /// Only on these chains.
    #[arg(long = "chain", value_parser = chain)]
    chains: Vec<ChainKind>,
    /// What all chance comes from; made up and printed, if left out. One seed gives one set of payments with the same idempotency
    /// keys: sent again they are answered, and nothing is paid.
    #[arg(long)]
    seed: Option<Seed>,
    /// How long after the last one everything may take to end.
    #[arg(long, default_value = "120s", value_parser = length)]
    settle: Duration,
    /// A file for the report, as a page.
    #[arg(long)]
    report: Option<PathBuf>,
    /// A file for the report, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Payments a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate(u32);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no rate; write 5/s or 90/m");
        let (number, factor) = match text.split_once('/') {
            None => (text, 60),
            Some((number, "s")) => (number, 60),
            Some((number, "m")) => (number, 1),
            Some(_) => return Err(wrong()),
        };
        let number: u32 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).filter(|rate| *rate > 0).map(Self).ok_or_else(wrong)
    }
}

/// Reads `90s`, `5m`, `500ms`; a bare number is seconds.
pub(crate) fn length(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time; write 60s, 5m or 500ms");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).filter(|millis| *millis > 0).map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads a chain's name.
pub(crate) fn chain(text: &str) -> Result<ChainKind, String> {
    let all = [ChainKind::Bitcoin, ChainKind::Ethereum, ChainKind::Solana];
    let found = all.into_iter().find(|chain| chain.name() == text);
    found.ok_or_else(|| format!("{text:?} is no chain; write bitcoin, ethereum or solana"))
}

/// Runs the load, and tells what came of it.
///
/// # Errors
/// Where the gateway can't be asked, or a payment doesn't become final.
pub(crate) async fn run(args: LoadArgs) -> Result<(), Failure> {
    let config = Config::load(args.config.as_deref())?;
    let client = GatewayClient::new(&args.url, args.credential.clone(), &args.key)?.for_audience(args.audience.clone());
    let client = Arc::new(client);
    let book = Book::of_config(&config, &book::wallets(&client).await?);
    let mut chains = book.chains();
    chains.retain(|chain| args.chains.is_empty() || args.chains.contains(chain));
    if chains.is_empty() {
        return Err(
            "no wallet of the gateway's has somebody to pay by this configuration; name the gateway's own: --config"
                .into(),
        );
    }
    let seed = args.seed.unwrap_or_else(|| Seed(OsRng.next_u64()));
    let waves = waves(&chains, args.rate, args.lasts, args.mix)?;
    let orders = orders(seed, &format!("load-{seed}"), &waves);
    println!("load     {} payments in {} s, seed {seed}", orders.len(), args.lasts.as_secs());
    let course = Course { settle: args.settle, keep_views: false, repeat: false };
    let board = Board::new(orders, &book)?;
    let shown = live::show(Arc::clone(&board));
    let driven = tokio::select! {
        driven = drive::drive(client, Arc::clone(&board), book, course) => driven,
        told = serve::stop_signal() => { told?; board.elapsed_ms() }
    };
    shown.end();
    let report = build(Told {
        name: "load".to_owned(),
        about: format!("Payments against the gateway at {}.", args.url),
        seed,
        command: command(&args, seed),
        began_unix_ms: board.began_unix_ms(),
        end_ms: driven,
        facts: vec![Fact { name: "mix".to_owned(), value: mix_text(args.mix) }],
        verdicts: Vec::new(),
        faults: Vec::new(),
        fates: board.fates(),
        ends: vec!["finalized".to_owned()],
    });
    println!("{}", summary(&report));
    write(&report, args.report.as_deref(), args.json.as_deref())?;
    let missing = report.totals.intended.saturating_sub(report.totals.finalized);
    if missing == 0 { Ok(()) } else { Err(format!("{missing} payments are not final").into()) }
}

/// Writes the report where it is wanted.
///
/// # Errors
/// Where a file can't be written.
pub(crate) fn write(
    report: &Report,
    page: Option<&std::path::Path>,
    json: Option<&std::path::Path>,
) -> Result<(), Failure> {
    if let Some(file) = page {
        std::fs::write(file, html(report)).map_err(|error| format!("{}: {error}", file.display()))?;
        println!("report   {}", file.display());
    }
    if let Some(file) = json {
        std::fs::write(file, serde_json::to_vec_pretty(report)?)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        println!("json     {}", file.display());
    }
    Ok(())
}

fn waves(chains: &[ChainKind], Rate(rate): Rate, lasts: Duration, mix: Mix) -> Result<Vec<Wave>, Failure> {
    let for_ms = u64::try_from(lasts.as_millis())?;
    let count = u32::try_from(chains.len())?;
    let share = |at: u32| rate / count + u32::from(at < rate % count);
    Ok((0_u32..)
        .zip(chains)
        .map(|(at, chain)| Wave { chain: *chain, per_minute: share(at), from_ms: 0, for_ms, mix })
        .collect())
}

fn mix_text(mix: Mix) -> String {
    format!("transfers={},tokens={},calls={}", mix.transfers, mix.tokens, mix.calls)
}

fn command(args: &LoadArgs, seed: Seed) -> String {
    let Rate(rate) = args.rate;
    let chains: String = args.chains.iter().map(|chain| format!(" --chain {chain}")).collect();
    let audience = args.audience.as_ref().map_or_else(String::new, |name| format!(" --audience {name}"));
    let config = args.config.as_ref().map_or_else(String::new, |file| format!(" --config {}", file.display()));
    format!(
        "portcullis load --url {} --credential {} --key {}{audience}{config} --rate {rate}/m --for {}ms --mix {}{chains} --seed {seed}",
        args.url,
        args.credential,
        args.key.display(),
        args.lasts.as_millis(),
        mix_text(args.mix)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_lengths_are_read() {
        assert_eq!("5/s".parse::<Rate>(), Ok(Rate(300)));
        assert_eq!("90/m".parse::<Rate>(), Ok(Rate(90)));
        assert_eq!("2".parse::<Rate>(), Ok(Rate(120)));
        for wrong in ["", "0", "-1", "1/h", "x/s", "99999999999/s", "99999999/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong:?}");
        }
        assert_eq!(length("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(length("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(length("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "0s", "1d", "-5s", "1.5s"] {
            assert!(length(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_rate_is_spread_over_the_chains_whole() {
        let chains = [ChainKind::Bitcoin, ChainKind::Ethereum, ChainKind::Solana];
        let waves = waves(&chains, Rate(100), Duration::from_secs(60), Mix::default()).expect("they are few");
        assert_eq!(waves.iter().map(|wave| wave.per_minute).collect::<Vec<_>>(), [34, 33, 33]);
    }
}
