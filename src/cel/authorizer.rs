//! The `authorizer` of expressions: what it is asked, and who answers.

use super::declaration::opaque;
use super::{Failure, FailureKind};

/// Whether somebody may do something: the question that `check` ends in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Question {
    /// Empty: the one who makes the request. Else a service account: namespace and name.
    pub service_account: Option<(String, String)>,
    /// Set: not of a resource but of this path.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
    pub verb: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// Set: the question could not be answered.
    pub error: Option<String>,
}

/// Who answers. `None`: not known yet; the run fails as [`FailureKind::Pending`], and is to be made
/// again when the answer is there.
pub trait Authorizer: Send + Sync {
    fn decide(&self, question: &Question) -> Option<Decision>;
}

/// A value on the way from `authorizer` to a decision.
#[derive(Clone)]
pub enum Authorization<'a> {
    Authorizer(&'a dyn Authorizer, Question),
    Path(&'a dyn Authorizer, Question),
    Group(&'a dyn Authorizer, Question),
    Resource(&'a dyn Authorizer, Question),
    Decision(Decision),
}

impl std::fmt::Debug for Authorization<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.type_name())
    }
}

impl Authorization<'_> {
    pub fn type_name(&self) -> &'static str {
        opaque(match self {
            Self::Authorizer(..) => "Authorizer",
            Self::Path(..) => "PathCheck",
            Self::Group(..) => "GroupCheck",
            Self::Resource(..) => "ResourceCheck",
            Self::Decision(_) => "Decision",
        })
    }

    /// `check(verb)`.
    pub(super) fn check(&self, verb: &str) -> Result<Self, Failure> {
        let (Self::Path(authorizer, question) | Self::Resource(authorizer, question)) = self else {
            return Err(super::library::no_such_overload());
        };
        let question = Question { verb: verb.to_owned(), ..question.clone() };
        match authorizer.decide(&question) {
            Some(decision) => Ok(Self::Decision(decision)),
            None => {
                Err(Failure { kind: FailureKind::Pending, message: "the authorizer has not answered yet".to_owned() })
            }
        }
    }
}
