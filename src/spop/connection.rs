//! One HAProxy connection: all complete frames of a read are answered, and their answers leave with one write.
//!
//! AGENT-HELLO in two TCP segments makes HAProxy since 3.2 reset the connection (#3478), and one write for a batch of ACKs
//! is also the cheapest. Buffers start small, grow with what really arrives (never with what a length field promises),
//! and shrink when the connection falls idle, because HAProxy keeps many connections open.

use super::ack::AckWriter;
use super::answerer::Answerer;
use super::budget::{Charge, FrameBudget};
use super::limits::Limits;
use super::notify::Messages;
use super::session::AckTicket;
use super::session::{Session, SessionEvent, SessionStep, UnsentAckError};
use super::translate::{QuestionError, put_bare_refusal};
use super::wire::WireError;
use crate::decision::moment::Moment;
use crate::metrics::{FrameLabel, Metrics};
use crate::net::log_throttle::LogThrottle;
use futures_util::future::join_all;
use std::fmt::Display;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Bytes the buffers of an idle connection keep, each.
const IDLE_BYTES: usize = 4 * 1024;

/// Bytes of answers collected before they are sent though more questions wait: bounds what many tiny questions in one
/// read could make us hold.
const FLUSH_BYTES: usize = 64 * 1024;

/// Most questions of one connection that are answered side by side.
const TOGETHER_MAX: usize = 64;

/// Reads answered after the process was told to stop: a peer that goes on asking must not hold it.
const FINISH_READS: usize = 64;

/// Most bytes of a peer we have finished with that are read and dropped.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// State that all connections of one listener share.
pub struct ConnectionContext<A> {
    /// Who answers.
    pub answerer: Arc<A>,
    /// Where frames are counted.
    pub metrics: Arc<Metrics>,
    /// Limits of the peers.
    pub limits: Limits,
    /// Warnings about peers.
    pub throttle: LogThrottle,
    /// Bytes that all connections may hold in begun frames.
    pub budget: FrameBudget,
}

/// Event that wakes a connection.
enum Wake {
    /// The process stops.
    Shutdown,
    /// Bytes, the end of the stream (0), or an error.
    Read(io::Result<usize>),
    /// The alarm that was set.
    Alarm,
}

/// Purpose of a connection's timer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alarm {
    /// HELLO is due.
    Hello,
    /// A look at unfinished frames and large buffers.
    Tick,
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    /// The conversation is over and our last frame is sent.
    Close,
}

/// Serves one connection until either side ends it. `peer` names it in the log.
pub async fn run<A: Answerer, S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: impl Display + Sync,
    shared: &ConnectionContext<A>,
    shutdown: &CancellationToken,
) {
    let mut connection = Connection {
        stream,
        peer,
        shared,
        session: Session::new(shared.limits.frame_size),
        input: Vec::with_capacity(IDLE_BYTES),
        output: Vec::new(),
        charge: shared.budget.charge(),
        progress: false,
        stalled_ticks: 0,
    };
    match connection.converse(shutdown).await {
        Ok(()) => connection.linger().await,
        // HAProxy leaves without a word as a matter of course: pool purge, checks (RST), reload.
        Err(error) => tracing::debug!(peer = %connection.peer, %error, "SPOP connection lost"),
    }
}

/// A question, and the permission to answer it.
type PendingQuestion<'i> = (AckTicket, Result<Messages<'i>, WireError>);

/// Answers one question into `output`; returns what was wrong with it, for the log.
async fn answer<A: Answerer>(
    answerer: &A,
    session: &Session,
    (ticket, messages): PendingQuestion<'_>,
    received: Moment,
    output: &mut Vec<u8>,
    peer: &(impl Display + Sync),
) -> Option<QuestionError> {
    let write = |fill: &mut dyn FnMut(&mut AckWriter<'_>)| {
        if let Err(UnsentAckError { ticket, error }) = session.ack(ticket, output, fill) {
            tracing::debug!(%peer, ?error, "SPOP answer replaced by a bare refusal");
            // At most 80 bytes, and every frame size agreed to is at least 256.
            let _ = session.ack(ticket, output, put_bare_refusal);
        }
    };
    answerer.answer(messages, received, write).await
}

struct Connection<'s, A, S, P> {
    stream: S,
    peer: P,
    shared: &'s ConnectionContext<A>,
    session: Session,
    /// Received and not yet consumed: at most a part of one frame between two reads.
    input: Vec<u8>,
    /// To be sent.
    output: Vec<u8>,
    /// Share of its input buffer in the common budget.
    charge: Charge<'s>,
    /// Whether a frame was completed since the last tick.
    progress: bool,
    stalled_ticks: u32,
}

impl<A: Answerer, S: AsyncRead + AsyncWrite + Unpin, P: Display + Sync> Connection<'_, A, S, P> {
    /// Ends well once our last frame is sent; an error means there is nobody left to talk to.
    async fn converse(&mut self, shutdown: &CancellationToken) -> io::Result<()> {
        let mut cancelled = pin!(shutdown.cancelled());
        let mut timer = pin!(sleep(self.shared.limits.hello));
        let mut alarm = Some(Alarm::Hello);
        loop {
            let wake = tokio::select! {
                biased;
                () = &mut cancelled => Wake::Shutdown,
                read = self.stream.read_buf(&mut self.input) => Wake::Read(read),
                () = &mut timer, if alarm.is_some() => Wake::Alarm,
            };
            match wake {
                Wake::Shutdown => return self.finish().await,
                Wake::Read(read) => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    if self.answer().await? == Next::Close {
                        return Ok(());
                    }
                }
                Wake::Alarm => {
                    let hello_missed = alarm == Some(Alarm::Hello) && !self.session.is_running();
                    alarm = None;
                    if hello_missed || !self.tick() {
                        return self.time_out().await;
                    }
                }
            }
            // The alarm for HELLO stays; it becomes a tick when HELLO came in time.
            if alarm.is_none() && self.needs_ticks() {
                timer.set(sleep(self.shared.limits.tick));
                alarm = Some(Alarm::Tick);
            }
        }
    }

    /// Answers every complete frame received and makes room for the rest of an incomplete one.
    async fn answer(&mut self) -> io::Result<Next> {
        let received = self.shared.answerer.now();
        let waits = self.shared.answerer.waits();
        let mut waiting = Vec::new();
        // Apart from the rest while questions in it are being answered. An error on the way ends the connection.
        let mut received_bytes = std::mem::take(&mut self.input);
        let mut consumed = 0;
        let needed = loop {
            let input = received_bytes.get(consumed..).unwrap_or_default();
            match self.session.step(input, &mut self.output) {
                SessionStep::Closed => break 0,
                SessionStep::Incomplete { needed } => break needed,
                SessionStep::Frame { consumed: length, event } => {
                    consumed = consumed.saturating_add(length);
                    self.progress = true;
                    match event {
                        SessionEvent::Notify { ticket, messages } => {
                            self.shared.metrics.frame(FrameLabel::Notify);
                            if waits {
                                waiting.push((ticket, messages));
                            } else {
                                let answerer = &*self.shared.answerer;
                                let asked = (ticket, messages);
                                let malformed =
                                    answer(answerer, &self.session, asked, received, &mut self.output, &self.peer)
                                        .await;
                                self.note_answer(malformed);
                            }
                        }
                        SessionEvent::Hello { agreed, offered, healthcheck } => {
                            self.shared.metrics.frame(FrameLabel::Hello);
                            if agreed.max_frame_size < offered && !healthcheck {
                                self.complain("max-frame-size lowered", &agreed.max_frame_size);
                            }
                            tracing::debug!(
                                peer = %self.peer,
                                max_frame_size = agreed.max_frame_size,
                                pipelining = agreed.pipelining,
                                healthcheck,
                                "SPOP hello"
                            );
                        }
                        SessionEvent::Goodbye { status } => {
                            self.shared.metrics.frame(FrameLabel::DisconnectReceived);
                            tracing::debug!(peer = %self.peer, status, "SPOP goodbye");
                        }
                        SessionEvent::Fault(fault) => {
                            self.shared.metrics.frame(FrameLabel::DisconnectSent);
                            self.complain("disconnected a peer", &fault);
                        }
                        SessionEvent::Skipped => {}
                    }
                    if waiting.len() >= TOGETHER_MAX {
                        self.answer_together(std::mem::take(&mut waiting), received).await;
                    }
                    if self.output.len() >= FLUSH_BYTES {
                        self.send().await?;
                    }
                }
            }
        };
        // After a goodbye in the same read nobody hears an answer: then nothing is asked of the store, and nothing granted.
        if !waiting.is_empty() && !self.session.is_closed() {
            self.answer_together(waiting, received).await;
        }
        received_bytes.drain(..consumed.min(received_bytes.len()));
        self.input = received_bytes;
        self.send().await?;
        if self.session.is_closed() {
            return Ok(Next::Close);
        }
        if self.make_room(needed) {
            return Ok(Next::Continue);
        }
        let fault = self.session.overload(&mut self.output);
        self.shared.metrics.frame(FrameLabel::DisconnectSent);
        self.complain("disconnected a peer", &fault);
        self.send().await?;
        Ok(Next::Close)
    }

    /// Answers questions that came together side by side, so that all of them wait no longer than one would.
    async fn answer_together(&mut self, questions: Vec<PendingQuestion<'_>>, received: Moment) {
        let (answerer, session, peer) = (&*self.shared.answerer, &self.session, &self.peer);
        let answers = join_all(questions.into_iter().map(|asked| async move {
            let mut bytes = Vec::new();
            let malformed = answer(answerer, session, asked, received, &mut bytes, peer).await;
            (bytes, malformed)
        }));
        for (bytes, malformed) in answers.await {
            self.output.extend_from_slice(&bytes);
            self.note_answer(malformed);
        }
    }

    /// Counts an answer, and warns of a question that could not be read.
    fn note_answer(&self, malformed: Option<QuestionError>) {
        self.shared.metrics.frame(FrameLabel::Ack);
        if let Some(malformed) = malformed {
            self.complain("refused a question", &malformed);
        }
    }

    /// Sends what was collected with one write.
    async fn send(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        timeout(self.shared.limits.write, self.stream.write_all(&self.output))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the peer does not read"))??;
        self.output.clear();
        Ok(())
    }

    /// Makes room for a frame of `needed` bytes: twice what has arrived, so that memory follows bytes and not promises.
    /// Returns false where all connections together hold as much as they may.
    fn make_room(&mut self, needed: usize) -> bool {
        if self.input.len() == self.input.capacity() {
            let room = self.input.len().saturating_mul(2).min(needed).max(IDLE_BYTES);
            if !self.charge.set(room.saturating_sub(IDLE_BYTES)) {
                return false;
            }
            self.input.reserve_exact(room.saturating_sub(self.input.len()));
        }
        true
    }

    /// Returns whether something about this connection changes with time alone.
    fn needs_ticks(&self) -> bool {
        !self.input.is_empty() || self.input.capacity() > IDLE_BYTES || self.output.capacity() > IDLE_BYTES
    }

    /// Frees large buffers when nothing happened since the last tick. Returns false where a frame has stalled.
    fn tick(&mut self) -> bool {
        if self.progress {
            self.progress = false;
            self.stalled_ticks = 0;
        } else if self.input.is_empty() {
            self.input.shrink_to(IDLE_BYTES);
            // Less than before, which there is always room for.
            let _ = self.charge.set(self.input.capacity().saturating_sub(IDLE_BYTES));
            self.output.shrink_to(IDLE_BYTES);
        } else {
            self.stalled_ticks = self.stalled_ticks.saturating_add(1);
        }
        self.stalled_ticks < self.shared.limits.stalled_ticks
    }

    async fn time_out(&mut self) -> io::Result<()> {
        let fault = self.session.time_out(&mut self.output);
        self.shared.metrics.frame(FrameLabel::DisconnectSent);
        self.complain("disconnected a peer", &fault);
        self.send().await
    }

    /// Answers what has already arrived, then says goodbye.
    async fn finish(&mut self) -> io::Result<()> {
        for _ in 0..FINISH_READS {
            let read = timeout(self.shared.limits.quiet, self.stream.read_buf(&mut self.input));
            let Ok(read) = read.await else { break };
            if read? == 0 || self.answer().await? == Next::Close {
                return Ok(());
            }
        }
        self.session.finish(&mut self.output);
        self.send().await
    }

    /// Reads the peer out before closing: with bytes unread, the kernel would send RST and our last frame could be lost.
    async fn linger(&mut self) {
        self.output = Vec::new();
        let drained = async {
            self.stream.shutdown().await?;
            let mut dropped = 0_usize;
            while dropped < LINGER_BYTES {
                self.input.clear();
                let read = self.stream.read_buf(&mut self.input).await?;
                if read == 0 {
                    break;
                }
                dropped = dropped.saturating_add(read);
            }
            Ok::<(), io::Error>(())
        };
        // Whether the peer closes, resets or stays silent, this connection is done.
        let _ = timeout(self.shared.limits.linger, drained).await;
    }

    fn complain(&self, what: &str, why: &dyn Display) {
        if let Some(passed_over) = self.shared.throttle.admit(self.shared.answerer.now()) {
            tracing::warn!(peer = %self.peer, %why, passed_over, "SPOP: {what}");
        }
    }
}
