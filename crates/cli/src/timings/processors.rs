//! The load of the machine's processors over time.

use std::time::Duration;

/// The most samples; if there are more, neighbours are merged.
const MAX_SAMPLES: usize = 4096;

/// The counters of `/proc/stat`, in ticks since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    busy: u64,
    all: u64,
}

impl Ticks {
    /// Reads the counters; `None` if the system has none: only Linux does.
    pub fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// The sum over all processors (proc(5)): user, nice, system, idle,
    /// iowait, irq, softirq and steal. The first two include the counters that follow.
    fn parse(text: &str) -> Option<Self> {
        let counters = text.lines().next()?.strip_prefix("cpu ")?;
        let counters: Vec<u64> = counters.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
        let idle = counters.get(3)? + counters.get(4)?;
        let all = counters.iter().sum();
        Some(Self { busy: all - idle, all })
    }
}

/// The number of processors of the machine, if the system tells.
pub fn count() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let is_processor = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    Some(text.lines().filter(is_processor).count()).filter(|count| *count > 0)
}

/// The load in each interval of a run, in bounded memory: the longer the run, the
/// longer the intervals.
#[derive(Debug, Default)]
pub struct Samples {
    kept: Vec<Sample>,
    last: Option<Ticks>,
    /// The binary logarithm of the number of readings in one sample.
    doublings: u32,
    /// The sample that is being collected, and its number of readings.
    pending: Option<(Sample, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    until: Duration,
    ticks: Ticks,
}

impl Sample {
    fn merge(self, later: Self) -> Self {
        let ticks = Ticks { busy: self.ticks.busy + later.ticks.busy, all: self.ticks.all + later.ticks.all };
        Self { until: later.until, ticks }
    }
}

impl Samples {
    /// Adds a reading of the counters.
    pub fn add(&mut self, until: Duration, now: Ticks) {
        let last = self.last.get_or_insert(now);
        if now.all <= last.all {
            return;
        }
        let last = std::mem::replace(last, now);
        // The counters of idle time sometimes decrease.
        let ticks = Ticks { busy: now.busy.saturating_sub(last.busy), all: now.all - last.all };
        let sample = Sample { until, ticks };
        let (sample, readings) = match self.pending.take() {
            Some((earlier, readings)) => (earlier.merge(sample), readings + 1),
            None => (sample, 1),
        };
        if readings < 1 << self.doublings {
            self.pending = Some((sample, readings));
            return;
        }
        self.kept.push(sample);
        if self.kept.len() >= MAX_SAMPLES {
            self.kept = self.kept.chunks(2).filter_map(|pair| pair.iter().copied().reduce(Sample::merge)).collect();
            self.doublings += 1;
        }
    }

    /// The end of each interval, and its load from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for a chart")]
    pub fn busy(&self) -> impl Iterator<Item = (Duration, f64)> {
        let pending = self.pending.map(|(sample, _)| sample);
        self.kept
            .iter()
            .copied()
            .chain(pending)
            .map(|Sample { until, ticks }| (until, ticks.busy as f64 / ticks.all as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_are_read() {
        let text = "cpu  10 1 5 100 4 1 2 3 7 8\ncpu0 1 2 3\n";
        assert_eq!(Ticks::parse(text), Some(Ticks { busy: 22, all: 126 }));
        for text in ["", "cpu0 1 2 3 4 5", "cpu  1 2 3"] {
            assert_eq!(Ticks::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_long_run_has_longer_intervals() {
        let mut samples = Samples::default();
        // Every other second is busy.
        let mut now = Ticks::default();
        for second in 0..=(MAX_SAMPLES as u64 * 3) {
            samples.add(Duration::from_secs(second), now);
            now.all += 10;
            now.busy += (second % 2) * 10;
        }
        let busy: Vec<_> = samples.busy().collect();
        assert!(busy.len() < MAX_SAMPLES && busy.len() >= MAX_SAMPLES / 2, "{}", busy.len());
        assert_eq!(busy.last().unwrap().0, Duration::from_secs(MAX_SAMPLES as u64 * 3));
        assert!(busy.iter().all(|(_, busy)| (*busy - 0.5).abs() < 1e-9));
    }

    #[test]
    fn a_short_run_keeps_each_reading() {
        let mut samples = Samples::default();
        for (second, busy) in [(0, 0), (1, 10), (2, 10)] {
            samples.add(Duration::from_secs(second), Ticks { busy, all: second * 10 });
        }
        let busy: Vec<_> = samples.busy().collect();
        assert_eq!(busy, [(Duration::from_secs(1), 1.0), (Duration::from_secs(2), 0.0)]);
    }
}
