//! What the owner of a domain does when the guest program asks for it.

use hdv::domain::{Domain, Injection};
use hdv::pci::DetectedError;
use hdv::pci::spec::aer::{CorrectableError, UncorrectableError};

/// Does what `words` ask for:
///
/// | words | what is done | what is told |
/// | --- | --- | --- |
/// | `count` | nothing | how many ports and functions there are, without VFs |
/// | `places` | nothing | where they are, separated by spaces |
/// | `inject PLACE correctable ERROR` | it detects an error, by its name in the standard's capability | |
/// | `inject PLACE uncorrectable ERROR` | the same | |
/// | `inject PLACE link-down` | the link below it goes down | |
/// | `inject PLACE link-up` | it may come up again | |
/// | `inject PLACE fail-config-reads N` | so many reads of its config space give all ones | |
pub(super) fn act(domain: &Domain, words: &str) -> Result<String, String> {
    let parts: Vec<&str> = words.split_whitespace().collect();
    match &parts[..] {
        ["count"] => Ok(domain.walk().len().to_string()),
        ["places"] => {
            let tree = domain.tree();
            let places: Vec<_> = tree.iter().map(|node| node.path.as_str()).collect();
            Ok(places.join(" "))
        }
        ["inject", place, what @ ..] => {
            let member = domain.find(place).map_err(|error| error.to_string())?;
            let injection = injection(what).ok_or("there is nothing like that to inject")?;
            let injected = domain.inject(member, injection);
            injected.map_err(|error| error.to_string())?;
            Ok(String::new())
        }
        _ => Err("there is no such thing to do".to_owned()),
    }
}

fn injection(words: &[&str]) -> Option<Injection> {
    Some(match words {
        ["correctable", name] => {
            let error = CorrectableError::from_name(name)?;
            Injection::Error(DetectedError::Correctable(error))
        }
        ["uncorrectable", name] => {
            let error = UncorrectableError::from_name(name)?;
            Injection::Error(DetectedError::Uncorrectable(error))
        }
        ["link-down"] => Injection::LinkDown,
        ["link-up"] => Injection::LinkUp,
        ["fail-config-reads", count] => Injection::FailConfigReads(count.parse().ok()?),
        _ => return None,
    })
}
