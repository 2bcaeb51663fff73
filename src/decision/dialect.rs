//! What a refusal says, in the dialect of its route. (Shape only; being written.)

use super::route::Dialect;
use super::verdict::Refusal;

/// The JSON body of a refusal: one line, control characters escaped.
pub fn refusal_body(_refusal: &Refusal, _dialect: Dialect) -> String {
    String::new()
}
