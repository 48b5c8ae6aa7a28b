//! Hears in the hub's own trace when the result of a generation came and when it was committed, and how many bodies went out.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    subscriber::Interest,
};
use tracing_subscriber::{Layer, layer::Context};

/// What was written and what came back of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tap(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    /// (agent, generation) to the series it counts in, and when it was committed.
    waiting: HashMap<(String, u64), (usize, Option<Instant>)>,
    /// How many of each series wait.
    open: HashMap<usize, usize>,
    /// Until results came, and until they were committed.
    series: HashMap<usize, Times>,
    bodies: u64,
}

impl Heard {
    fn forget(&mut self, is: &(String, u64)) {
        if let Some((series, _)) = self.waiting.remove(is)
            && let Some(open) = self.open.get_mut(&series)
        {
            *open = open.saturating_sub(1);
        }
    }
}

/// Times from the commit of an intent.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// Until its result was at the hub.
    pub(crate) came: Vec<Duration>,
    /// Until its result was committed.
    pub(crate) settled: Vec<Duration>,
}

impl Tap {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A generation is about to be written.
    pub(crate) fn expect(&self, series: usize, agent: &str, generation: u64) {
        let mut heard = self.lock();
        heard
            .waiting
            .insert((agent.to_owned(), generation), (series, None));
        *heard.open.entry(series).or_default() += 1;
    }

    /// It is committed.
    pub(crate) fn committed(&self, agent: &str, generation: u64) {
        let now = Instant::now();
        if let Some(place) = self.lock().waiting.get_mut(&(agent.to_owned(), generation)) {
            place.1 = Some(now);
        }
    }

    /// It was not written.
    pub(crate) fn failed(&self, agent: &str, generation: u64) {
        self.lock().forget(&(agent.to_owned(), generation));
    }

    /// Generations of a series whose result has not come.
    pub(crate) fn waiting(&self, series: usize) -> usize {
        self.lock().open.get(&series).copied().unwrap_or(0)
    }

    /// The times of a series, sorted; what still waits is forgotten.
    pub(crate) fn take(&self, series: usize) -> Times {
        let mut heard = self.lock();
        heard.waiting.retain(|_, (of, _)| *of != series);
        heard.open.remove(&series);
        let mut times = heard.series.remove(&series).unwrap_or_default();
        times.came.sort_unstable();
        times.settled.sort_unstable();
        times
    }

    /// Bodies that were handed to sessions since the process began.
    pub(crate) fn bodies(&self) -> u64 {
        self.lock().bodies
    }
}

#[derive(Default)]
struct Fields {
    agent: String,
    generation: u64,
    bodies: u64,
    committed: bool,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "generation" => self.generation = value,
            "bodies" => self.bodies = value,
            _ => {}
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.committed |= field.name() == "committed" && value;
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "agent" {
            value.clone_into(&mut self.agent);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

fn concerns(metadata: &Metadata<'_>) -> bool {
    *metadata.level() == Level::TRACE && metadata.target() == upm_hub::TRACE_TARGET
}

impl<S: Subscriber> Layer<S> for Tap {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if concerns(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        concerns(metadata)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let now = Instant::now();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut heard = self.lock();
        heard.bodies += fields.bodies;
        let is = (fields.agent, fields.generation);
        let Some((series, written)) = heard.waiting.get(&is).copied() else {
            return;
        };
        let took = written.map_or(Duration::ZERO, |at| now.duration_since(at));
        let times = heard.series.entry(series).or_default();
        if fields.committed {
            times.settled.push(took);
            heard.forget(&is);
        } else {
            times.came.push(took);
        }
    }
}

/// A quantile of sorted times, in milliseconds.
pub(crate) fn quantile(times: &[Duration], q: f64) -> f64 {
    let at = ((times.len() as f64 * q).ceil() as usize).clamp(1, times.len().max(1)) - 1;
    times.get(at).map_or(f64::NAN, |t| t.as_secs_f64() * 1e3)
}
