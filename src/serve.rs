//! The composition root: builds the state, starts every listener and loop, and drains on a signal. The only place that
//! wires.
