//! Requests that have ended lately: a usage line that comes again changes nothing, one that comes late corrects. Pure.

use super::reservation::{Evidence, Record};
use std::collections::{HashMap, VecDeque};

/// Most requests remembered: some minutes of a busy proxy.
const DONE_MAX: usize = 65_536;

/// Most records kept of requests that ended without a line; each is some hundred bytes.
const EXPIRED_MAX: usize = 16_384;

/// The requests that ended last, and how.
#[derive(Debug, Default)]
pub struct Done {
    evidence: HashMap<u128, Evidence>,
    order: VecDeque<u128>,
    expired: HashMap<u128, Box<Record>>,
    expired_order: VecDeque<u128>,
}

impl Done {
    /// Remembers that a request has ended with this evidence.
    pub fn note(&mut self, id: u128, evidence: Evidence) {
        if self.evidence.insert(id, evidence).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > DONE_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.evidence.remove(&oldest);
            }
        }
    }

    /// Remembers a request that was charged its reservation, because no line came.
    pub fn note_expired(&mut self, record: &Record) {
        let id = record.reservation.id;
        self.note(id, record.evidence);
        if self.expired.insert(id, Box::new(record.clone())).is_none() {
            self.expired_order.push_back(id);
        }
        while self.expired_order.len() > EXPIRED_MAX {
            if let Some(oldest) = self.expired_order.pop_front() {
                self.expired.remove(&oldest);
            }
        }
    }

    /// Returns how a request ended, if it is remembered.
    pub fn evidence(&self, id: u128) -> Option<Evidence> {
        self.evidence.get(&id).copied()
    }

    /// Returns the record of a request that ended without a line, to be corrected. Each is handed out once.
    pub fn take_expired(&mut self, id: u128) -> Option<Record> {
        self.expired.remove(&id).map(|record| *record)
    }
}
