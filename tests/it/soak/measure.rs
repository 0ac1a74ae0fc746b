//! Descriptors, threads and memory over time, and the lines through them.

use std::time::Duration;

use crate::support::resources::Resources;

/// Looks at one program, with their times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<(Duration, Resources)>);

/// What a line through samples gains in an hour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slopes {
    pub(crate) descriptors: f64,
    pub(crate) threads: f64,
    pub(crate) mebibytes: f64,
    pub(crate) private_mebibytes: f64,
}

impl Samples {
    pub(crate) fn push(&mut self, at: Duration, resources: Resources) {
        self.0.push((at, resources));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn first(&self) -> Option<Resources> {
        self.0.first().map(|(_, resources)| *resources)
    }

    /// The last samples from this one on: what comes before fills caches.
    pub(crate) fn from(&self, at: usize) -> Self {
        Self(self.0.iter().skip(at).copied().collect())
    }

    /// By least squares.
    pub(crate) fn slopes(&self) -> Slopes {
        let slope = |of: fn(&Resources) -> f64| {
            let points: Vec<_> = self.0.iter().map(|(at, seen)| (at.as_secs_f64() / 3_600.0, of(seen))).collect();
            let count = points.len().max(1) as f64;
            let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
            let (x, y) = (mean(|point| point.0), mean(|point| point.1));
            let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
                (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
            });
            if below > 0.0 { above / below } else { 0.0 }
        };
        Slopes {
            descriptors: slope(|seen| seen.descriptors as f64),
            threads: slope(|seen| seen.threads as f64),
            mebibytes: slope(|seen| seen.memory as f64 / f64::from(1 << 20)),
            private_mebibytes: slope(|seen| seen.private as f64 / f64::from(1 << 20)),
        }
    }

    /// For people: first, last and greatest, and the slopes.
    pub(crate) fn line(&self) -> String {
        let (Some((_, first)), Some((_, last))) = (self.0.first(), self.0.last()) else { return "nothing".to_owned() };
        let most = |of: fn(&Resources) -> u64| self.0.iter().map(|(_, seen)| of(seen)).max().unwrap_or(0);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let Slopes { descriptors, threads, mebibytes, private_mebibytes } = self.slopes();
        format!(
            "{} samples; descriptors {} to {} (most {}, {descriptors:+.1}/h); threads {} to {} (most {}, {threads:+.1}/h); \
             memory {:.1} to {:.1} MiB (most {:.1}, {mebibytes:+.2}/h), private {:.1} to {:.1} (most {:.1}, \
             {private_mebibytes:+.2}/h)",
            self.0.len(),
            first.descriptors,
            last.descriptors,
            most(|seen| seen.descriptors as u64),
            first.threads,
            last.threads,
            most(|seen| seen.threads as u64),
            mib(first.memory),
            mib(last.memory),
            mib(most(|seen| seen.memory)),
            mib(first.private),
            mib(last.private),
            mib(most(|seen| seen.private)),
        )
    }
}
