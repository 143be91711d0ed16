//! What the owner of a domain does when the guest program asks for it.

use hdv::domain::Domain;

/// Does what `words` ask for:
///
/// | words | what is done | what is told |
/// | --- | --- | --- |
/// | `count` | nothing | how many ports and functions there are, without VFs |
pub(super) fn act(domain: &Domain, words: &str) -> Result<String, String> {
    let mut parts = words.split_whitespace();
    match (parts.next(), parts.next()) {
        (Some("count"), None) => Ok(domain.walk().len().to_string()),
        _ => Err("there is no such thing to do".to_owned()),
    }
}
