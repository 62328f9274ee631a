//! How a mistake in a description is told: the file, the line, what is wrong, and the mend.

use std::ops::Range;

use miette::{LabeledSpan, NamedSource, Report, Result, miette};
use toml::Spanned;

/// A mistake at `place`.
pub fn report(source: &NamedSource<String>, place: Range<usize>, what: &str, mend: &str) -> Report {
    let label = LabeledSpan::underline(place);
    miette!(labels = vec![label], help = mend, "{what}").with_source_code(source.clone())
}

/// The report of a file that is not TOML, or whose keys are others.
pub fn unreadable(source: &NamedSource<String>, error: &toml::de::Error) -> Report {
    let message = error.message();
    let mend = if let Some((wrong, known)) = unknown_key(message) {
        format!("{}remove it, or use one of: {}", closest(wrong, &known), listed(&known))
    } else if message.starts_with("missing field") {
        "add it; the book, \"Images\", shows a whole description".to_owned()
    } else {
        "the book, \"Images\", says what each key may be".to_owned()
    };
    let length = source.inner().len();
    report(source, error.span().unwrap_or(length..length), message, &mend)
}

/// The unknown key and the known ones, from serde's message: "unknown field `a`, expected one of `b`, `c`".
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown variant "))?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// "did you mean `x`? " if one of `known` is close to `wrong`.
pub fn closest(wrong: &str, known: &[&str]) -> String {
    let distances = known.iter().map(|name| (strsim::damerau_levenshtein(wrong, name), name));
    match distances.min() {
        Some((distance, name)) if distance <= wrong.len() / 3 + 1 => format!("did you mean `{name}`? "),
        _ => String::new(),
    }
}

/// `a`, `b`, `c`
pub fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

/// Checks a name of something that an image contains.
pub fn check_name(source: &NamedSource<String>, name: &Spanned<String>) -> Result<()> {
    let text = name.get_ref();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=31).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(());
    }
    let mend = "a name has 1 to 31 characters out of a-z, 0-9 and `-`";
    Err(report(source, name.span(), &format!("`{text}` is not a name"), mend))
}
