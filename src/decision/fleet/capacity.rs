//! How many requests a server may have in flight: the number that HAProxy gets, and the one above which a request must
//! wait.

use crate::decision::fleet::Inventory;
use crate::decision::plan::server::{Server, ServerKind};

/// Returns the number for HAProxy: `maxconn` as configured, or else what the slots allow. `None` if the operator gave
/// neither: a guess must not make requests wait there.
pub fn told(server: &Server, inventory: Option<&Inventory>) -> Option<u32> {
    server.maxconn.or_else(|| Some(by_slots(server, server.slots?, inventory?)))
}

/// Returns the same number or, if the operator gave neither, what one slot a model allows: Ollama's own default
/// (`OLLAMA_NUM_PARALLEL`). At least 1.
pub fn of(server: &Server, inventory: &Inventory) -> u32 {
    server.maxconn.unwrap_or_else(|| by_slots(server, server.parallel(), inventory)).max(1)
}

/// Returns the slots of each loaded model, and of one more, so that a request for a model that is not loaded need not
/// wait for others to end.
fn by_slots(server: &Server, slots: u32, inventory: &Inventory) -> u32 {
    let models = match server.kind {
        ServerKind::Ollama => u32::try_from(inventory.loaded.len()).unwrap_or(u32::MAX).saturating_add(1),
        ServerKind::OpenAi => 1,
    };
    slots.saturating_mul(models)
}
