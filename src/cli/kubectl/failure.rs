//! What goes wrong, in kubectl's words.

use crate::api::Status;
use crate::api::field::go_quote;
use std::fmt;

#[derive(Debug)]
pub enum Failure {
    /// The server says no.
    Status(Box<Status>),
    /// The whole text, as it is.
    Said(String),
    /// Something here.
    Local(anyhow::Error),
    /// Several, each on its own.
    Several(Vec<Failure>),
    /// What was run ended with this code, and this is to be said.
    Ended(String, u8),
    /// What is to be said has been said.
    Exit(u8),
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn local(text: impl Into<String>) -> Self {
        Self::Local(anyhow::Error::msg(text.into()))
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status(status) if status.is_not_found())
    }

    /// Without what kubectl says before it.
    pub fn message(&self) -> String {
        match self {
            Self::Status(status) => status.message.clone(),
            Self::Local(error) => format!("{error:#}"),
            other => other.to_string(),
        }
    }

    pub fn code(&self) -> u8 {
        match self {
            Self::Exit(code) | Self::Ended(_, code) => *code,
            _ => 1,
        }
    }

    /// The server's answer, with what was being done: `error when creating "web.yaml": …`.
    pub fn doing(self, what: &str, source: &str) -> Self {
        match self {
            Self::Status(mut status) => {
                status.message = format!("error when {what} {}: {}", go_quote(source), status.message);
                Self::Status(status)
            }
            Self::Local(error) => Self::Local(error.context(format!("error when {what} {}", go_quote(source)))),
            other => other,
        }
    }

    /// One of several; none is success.
    pub fn all(mut failures: Vec<Self>) -> Outcome<()> {
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(Self::Several(failures)),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Local(error)
    }
}

impl From<std::io::Error> for Failure {
    /// A reader that went away (`… | head`) is no error to speak of.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe { Self::Exit(1) } else { Self::Local(error.into()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(_) => Ok(()),
            Self::Said(text) | Self::Ended(text, _) => f.write_str(text),
            Self::Local(error) => write!(f, "error: {error:#}"),
            Self::Several(failures) => {
                for (at, failure) in failures.iter().enumerate() {
                    let separator = if at == 0 { "" } else { "\n" };
                    match failure {
                        // Only one that stands alone is called an error.
                        Self::Local(error) => write!(f, "{separator}{error:#}")?,
                        Self::Status(status) if status.reason == "Invalid" => {
                            write!(f, "{separator}Error from server (Invalid): {}", status.message)?;
                        }
                        failure => write!(f, "{separator}{failure}")?,
                    }
                }
                Ok(())
            }
            Self::Status(status) => match status.reason.as_str() {
                "Invalid" => invalid(status, f),
                "Unauthorized" => {
                    write!(f, "error: You must be logged in to the server ({})", status.message)
                }
                "" => write!(f, "Error from server: {}", status.message),
                reason => write!(f, "Error from server ({reason}): {}", status.message),
            },
        }
    }
}

/// `The Pod "web" is invalid: spec.x: …`, a line per cause where there are several.
fn invalid(status: &Status, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(details) = &status.details else {
        return write!(f, "The request is invalid: {}", status.message);
    };
    match (details.kind.as_str(), details.name.as_str()) {
        ("", "") => f.write_str("The request is invalid")?,
        (kind, name) => write!(f, "The {kind} {} is invalid", go_quote(name))?,
    }
    if details.kind.is_empty() && details.name.is_empty() && details.causes.is_empty() && !status.message.is_empty() {
        write!(f, ": {}", status.message)?;
    }
    let mut causes: Vec<String> = Vec::new();
    for cause in &details.causes {
        let text =
            if cause.field.is_empty() { cause.message.clone() } else { format!("{}: {}", cause.field, cause.message) };
        if !causes.contains(&text) {
            causes.push(text);
        }
    }
    match causes.as_slice() {
        [] => Ok(()),
        [one] => write!(f, ": {one}"),
        many => {
            f.write_str(": ")?;
            many.iter().try_for_each(|cause| write!(f, "\n* {cause}"))
        }
    }
}
