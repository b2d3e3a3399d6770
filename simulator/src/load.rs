//! Load: what is asked of a gateway, fixed ahead, and how long it took.
//!
//! - [`plan`]: waves of payments become orders, each with its moment, its name, its amount and its payee, all from the seed;
//! - [`fate`]: what became of each order;
//! - [`latency`]: percentiles, by HdrHistogram.
//!
//! The load is open-loop: an order's moment doesn't wait for the orders before it, and every latency counts from that moment, whether
//! the order could be sent then or not. So a gateway that stalls is charged for the whole queue behind the stall, not for one slow
//! answer (coordinated omission; Gil Tene, "How NOT to Measure Latency", 2013).

pub mod fate;
pub mod latency;
pub mod plan;

pub use self::fate::{Fate, Reached};
pub use self::latency::{Latencies, Percentiles};
pub use self::plan::{Kind, Mix, MixError, Order, Wave, digest, orders};
