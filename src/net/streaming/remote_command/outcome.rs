//! How a command ended, as the error stream says it.

use serde_json::json;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// Not zero.
    ExitCode(i32),
    /// It could not be run.
    Failure(String),
}

impl Outcome {
    /// What goes out on the error stream: a Status from `v4` on, before that text for failures.
    pub fn message(&self, structured: bool) -> Option<Vec<u8>> {
        if structured { Some(self.status().to_string().into_bytes()) } else { self.text().map(String::into_bytes) }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Success => None,
            Self::ExitCode(code) => Some(format!("command terminated with exit code {code}")),
            Self::Failure(reason) => Some(reason.clone()),
        }
    }

    fn status(&self) -> serde_json::Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::ExitCode(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failure(reason) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {reason}"),
                "reason": "InternalError",
                "details": {"causes": [{"message": reason}]},
                "code": 500,
            }),
        }
    }
}
