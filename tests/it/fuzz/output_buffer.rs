//! The output buffer against a model: everything that was ever appended, in one `Vec`.

use std::sync::Arc;

use data_encoding::BASE64;
use ssh_mcp::ssh::output::{Form, HEAD_BYTES, OutputBuffer, Shown, Source, SpillStore, TAIL_BYTES, View};

/// Bytes that one run appends at most, so that runs stay short.
const MOST: usize = 2 << 20;
/// Steps of one run.
const STEPS: usize = 64;

/// Each four bytes are a step: what, and two numbers for it.
pub fn check(data: &[u8]) {
    super::block_on(async {
        let Some((kind, steps)) = data.split_first() else { return };
        let directory = tempfile::tempdir().expect("a directory");
        let mut run = Run::new(*kind, directory.path().join("spill"));
        for step in steps.chunks_exact(4).take(STEPS) {
            run.step(step[0], u16::from_le_bytes([step[1], step[2]]), step[3]).await;
        }
        run.read_all().await;
    });
}

struct Run {
    output: OutputBuffer,
    /// Appends go on to the file as the pump does it, or the middle is lost.
    settles: bool,
    /// Bytes that a spill store keeps of this command; none where there is no file.
    keeps: Option<usize>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Run {
    fn new(kind: u8, directory: std::path::PathBuf) -> Self {
        let mib = u64::from(kind >> 2 & 1);
        let (store, keeps): (Arc<SpillStore>, _) = match kind & 3 {
            1 => (SpillStore::off(), None),
            2 => (SpillStore::new(Some(directory), mib << 20, 64 << 20), Some(0)),
            _ => (SpillStore::new(Some(directory), 64 << 20, 64 << 20), Some(MOST)),
        };
        Self { output: OutputBuffer::new(store), settles: true, keeps, stdout: Vec::new(), stderr: Vec::new() }
    }

    async fn step(&mut self, what: u8, number: u16, detail: u8) {
        let source = if what & 0x80 == 0 { Source::Stdout } else { Source::Stderr };
        match what & 0x0f {
            0..=2 => self.append(source, usize::from(number) + 1, detail).await,
            3..=5 => self.append(source, usize::from(number) * 16, detail).await,
            6 => self.append(source, usize::from(number % 9), detail).await,
            7 => self.settles = detail & 1 == 0,
            8..=11 => self.read(source, u64::from(number) * (u64::from(detail) + 1) / 4, number).await,
            12 => self.ends(source, View::Tail, number).await,
            13 => self.ends(source, View::HeadAndTail, number).await,
            _ => self.text(source, u64::from(number) * u64::from(detail % 32 + 1), number).await,
        }
        self.totals();
    }

    fn model(&self, source: Source) -> &Vec<u8> {
        match source {
            Source::Stdout => &self.stdout,
            Source::Stderr => &self.stderr,
        }
    }

    async fn append(&mut self, source: Source, length: usize, detail: u8) {
        let model = if source == Source::Stdout { &mut self.stdout } else { &mut self.stderr };
        if model.len() + length > MOST {
            return;
        }
        let bytes: Vec<u8> = content(detail).iter().copied().cycle().skip(model.len() % 7).take(length).collect();
        model.extend(&bytes);
        for packet in bytes.chunks(32 << 10) {
            self.output.append(source, packet);
            if self.settles {
                self.output.settle().await;
            }
        }
        if !self.settles {
            // Nothing says any more how much is kept.
            self.keeps = self.keeps.map(|_| 0);
        }
    }

    fn totals(&self) {
        assert_eq!(self.output.total(Source::Stdout), self.stdout.len() as u64);
        assert_eq!(self.output.total(Source::Stderr), self.stderr.len() as u64);
    }

    async fn shown(&self, source: Source, view: View, form: Form, budget: usize) -> Shown {
        let view = self.output.view(view, form, budget, true).await;
        let (stream, total) = match source {
            Source::Stdout => (view.stdout, self.stdout.len()),
            Source::Stderr => (view.stderr, self.stderr.len()),
        };
        assert_eq!(stream.total_bytes, total as u64);
        if let Some(lost) = &stream.lost {
            assert!(lost.from >= HEAD_BYTES as u64 && lost.from + lost.bytes <= total as u64, "{lost:?} of {total}");
            assert!(lost.from + lost.bytes + TAIL_BYTES as u64 >= total as u64, "{lost:?} of {total}");
            assert!(self.keeps != Some(MOST), "lost though there was room: {lost:?}");
        }
        stream.shown.expect("asked for")
    }

    /// Exact bytes from an offset on, and never more than was asked for.
    async fn exact(&self, source: Source, from: u64, budget: usize) -> Shown {
        let shown = self.shown(source, from_view(source, from), Form::Base64, budget).await;
        let bytes = BASE64.decode(shown.text.as_bytes()).expect("base64");
        assert_eq!(shown.offset + bytes.len() as u64, shown.next_offset);
        assert!(shown.text.len() <= budget.max(8), "{} of {budget}", shown.text.len());
        assert_eq!(bytes, range(self.model(source), shown.offset, shown.next_offset), "from {from}");
        match shown.omitted {
            Some(gap) => assert_eq!((gap.from, gap.from + gap.bytes), (from, shown.offset), "a gap as it was told"),
            None => assert_eq!(shown.offset, from.min(self.model(source).len() as u64)),
        }
        shown
    }

    async fn read(&self, source: Source, from: u64, budget: u16) {
        self.exact(source, from, usize::from(budget) + 8).await;
    }

    /// Text as it came: whole characters, and the same as of the bytes that it says it is of.
    async fn text(&self, source: Source, from: u64, budget: u16) {
        let shown = self.shown(source, from_view(source, from), Form::Raw, usize::from(budget) + 8).await;
        let bytes = range(self.model(source), shown.offset, shown.next_offset);
        let text = String::from_utf8_lossy(bytes);
        assert!(shown.text.ends_with(&*text), "{from}: {:?} is not of {bytes:?}", shown.text);
        if shown.omitted.is_none() {
            assert_eq!(shown.text, text);
        }
        let model = self.model(source);
        // Where the middle is lost, so may be the rest of the last character before it.
        let whole = shown.omitted.is_none() && self.keeps == Some(MOST);
        if whole && std::str::from_utf8(model).is_ok() {
            assert!(!text.contains(char::REPLACEMENT_CHARACTER), "a character was cut at {from}");
        }
    }

    /// Head and tail say of which bytes they are, and leave out what they say they leave out.
    async fn ends(&self, source: Source, view: View, budget: u16) {
        let shown = self.shown(source, view, Form::Raw, usize::from(budget) + 64).await;
        let model = self.model(source);
        assert_eq!(shown.next_offset, model.len() as u64);
        if let Some(gap) = shown.omitted {
            let tail = String::from_utf8_lossy(range(model, gap.from + gap.bytes, shown.next_offset)).into_owned();
            assert!(shown.text.ends_with(&tail), "{view:?} {budget}");
        } else {
            assert_eq!(shown.text, String::from_utf8_lossy(range(model, shown.offset, shown.next_offset)));
        }
    }

    /// A reader that follows the offsets comes to the end and has everything that is kept.
    async fn read_all(&self) {
        for source in [Source::Stdout, Source::Stderr] {
            let (mut from, total) = (0, self.model(source).len() as u64);
            while from < total {
                let shown = self.exact(source, from, 64 << 10).await;
                assert!(shown.next_offset > from, "no way on from {from} of {total}");
                from = shown.next_offset;
            }
        }
    }
}

fn from_view(source: Source, from: u64) -> View {
    match source {
        Source::Stdout => View::From { stdout: Some(from), stderr: None },
        Source::Stderr => View::From { stdout: None, stderr: Some(from) },
    }
}

fn range(model: &[u8], from: u64, to: u64) -> &[u8] {
    let at = |offset: u64| usize::try_from(offset).expect("a small number");
    &model[at(from)..at(to)]
}

fn content(detail: u8) -> &'static [u8] {
    const CONTENTS: [&[u8]; 4] = ["aé€😀\n".as_bytes(), b"0123456789abcde\n", b"\xff\xc3\xe2\x82x", "😀".as_bytes()];
    CONTENTS[usize::from(detail) % CONTENTS.len()]
}
