//! Names of ports and functions, as a domain has them.

/// Most characters.
const LENGTH: usize = 64;

/// Whether a port or a function can be called so.
pub(super) fn is_possible(name: &str) -> bool {
    let length = name.chars().count();
    let is_plain = |c: char| c != '/' && !c.is_control();
    (1..=LENGTH).contains(&length) && name.chars().all(is_plain) && !is_number(name)
}

/// Whether it is device and function, as `lspci` writes them.
fn is_number(name: &str) -> bool {
    let Some((device, function)) = name.split_once('.') else {
        return false;
    };
    let below = |text: &str, digits, limit| {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_number = is_hex && (1..=digits).contains(&text.len());
        is_number && u8::from_str_radix(text, 16).is_ok_and(|number| number < limit)
    };
    below(device, 2, 32) && below(function, 1, 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_numbers_and_no_paths() {
        for name in [
            "nic",
            "nic:0",
            "bay-1:0",
            "a",
            "é",
            "20.0",
            "cafe.0",
            &"x".repeat(64),
        ] {
            assert!(is_possible(name), "{name:?}");
        }
        for name in [
            "",
            "a/b",
            "a\n",
            "01.0",
            "1.0",
            "1f.7",
            "a.0",
            &"x".repeat(65),
        ] {
            assert!(!is_possible(name), "{name:?}");
        }
    }
}
