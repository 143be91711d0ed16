//! `hdv tree`: what is in the domains of running hosts, and who has it.

use super::draw::{self, Line};
use super::find::{self, Found};
use super::node::Domain;
use super::watch;
use crate::Failure;
use crate::args::TreeArgs;
use crate::progress;
use crate::style::{self, Paint};

pub(crate) fn run(args: &TreeArgs) -> Result<(), Failure> {
    if args.watch {
        return watch::run(|| lines(args));
    }
    let (domains, errors) = progress::during("Asking the device hosts", || look(args))?;
    let text = if args.output.json {
        let document = serde_json::json!({ "domains": domains });
        format!("{}\n", serde_json::to_string_pretty(&document)?)
    } else {
        let paint = Paint::stdout();
        let lines = drawn(&domains);
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
        eprintln!("{} {error}", paint.paint(style::WARNING, "warning:"));
    }
}

/// The domains that are asked for, and what could not be looked at.
fn look(args: &TreeArgs) -> Result<(Vec<Domain>, Vec<String>), Failure> {
    let domain = |found: &Found| {
        let (tree, endpoint) = found.look()?;
        Ok::<_, Failure>(Domain::new(found, tree, endpoint))
    };
    if let Some(name) = &args.domain {
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

fn drawn(domains: &[Domain]) -> Vec<Line> {
    let mut lines = Vec::new();
    for domain in domains {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.extend(draw::lines(domain));
    }
    if lines.is_empty() {
        let text = "No domain is served. `hdv serve --domain FILE.toml --socket PATH` serves one.";
        lines.push(Line::text(text));
    }
    lines
}

/// For a picture that is drawn again and again: what cannot be had is said in it.
fn lines(args: &TreeArgs) -> Vec<Line> {
    match look(args) {
        Ok((domains, errors)) => {
            let errors = errors.into_iter().map(|error| Line::text(&error));
            drawn(&domains).into_iter().chain(errors).collect()
        }
        Err(error) => error.to_string().lines().map(Line::text).collect(),
    }
}
