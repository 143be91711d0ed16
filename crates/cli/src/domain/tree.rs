//! `hdv tree`: what is in the domains of running hosts, and who has it.

use super::draw::{self, Line, Vfs};
use super::find::{self, Found};
use super::node::Domain;
use super::watch;
use crate::Failure;
use crate::args::TreeArgs;
use crate::progress;
use crate::style::{self, Paint};

pub(crate) fn run(args: &TreeArgs) -> Result<(), Failure> {
    if args.watch {
        let domain = args.domain.clone();
        let look = move || look(domain.as_deref()).map_err(|error| error.to_string());
        return watch::run(look, lines);
    }
    let look = || look(args.domain.as_deref());
    let (domains, errors) = progress::during("Asking the device hosts", look)?;
    let text = if args.output.json {
        let document = serde_json::json!({ "domains": domains });
        format!("{}\n", serde_json::to_string_pretty(&document)?)
    } else {
        let paint = Paint::stdout();
        let lines = drawn(&domains, Vfs::Each);
        let lines = lines
            .iter()
            .map(|line| line.render(paint, usize::MAX) + "\n");
        lines.collect()
    };
    style::print(&text)?;
    tell(&errors);
    Ok(())
}

fn tell(errors: &[String]) {
    for error in errors {
        let paint = Paint::stderr();
        let error = style::printable_lines(error);
        eprintln!("{} {error}", paint.paint(style::WARNING, "warning:"));
    }
}

/// Domains, and what could not be looked at.
type Seen = (Vec<Domain>, Vec<String>);

/// The domains that are asked for, and what could not be looked at.
fn look(domain: Option<&str>) -> Result<Seen, Failure> {
    let wanted = domain;
    let domain = |found: &Found| {
        let (tree, endpoint) = found.look()?;
        Ok::<_, Failure>(Domain::new(found, tree, endpoint))
    };
    if let Some(name) = wanted {
        return Ok((vec![domain(&find::one(name)?)?], Vec::new()));
    }
    let (all, mut errors) = find::all()?;
    let mut domains = Vec::new();
    for found in &all {
        match domain(found) {
            Ok(domain) => domains.push(domain),
            // It has ended meanwhile.
            Err(_) if !found.control.exists() => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    Ok((domains, errors))
}

fn drawn(domains: &[Domain], vfs: Vfs) -> Vec<Line> {
    let mut lines = Vec::new();
    for domain in domains {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.extend(draw::lines(domain, vfs));
    }
    if lines.is_empty() {
        let text = "No domain is served. `hdv serve --domain FILE.toml --socket PATH` serves one.";
        lines.push(Line::text(text));
    }
    lines
}

/// For a picture that is drawn again and again: what cannot be had is said in it, and VFs are drawn together where there are not
/// so many rows.
fn lines(seen: &Result<Seen, String>, rows: usize) -> Vec<Line> {
    let (domains, errors) = match seen {
        Ok(seen) => seen,
        Err(error) => return error.lines().map(Line::text).collect(),
    };
    let all = |vfs| {
        let errors = errors.iter().map(|error| Line::text(error));
        let lines: Vec<_> = drawn(domains, vfs).into_iter().chain(errors).collect();
        lines
    };
    let each = all(Vfs::Each);
    if each.len() > rows {
        all(Vfs::Together)
    } else {
        each
    }
}
