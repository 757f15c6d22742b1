//! `kubectl certificate`: say yes or no to certificate signing requests.

use super::changes::Change;
use super::failure::{Failure, Outcome};
use super::flags::{Arguments, Flag, Run, Verb, switch};
use super::manifest::{self, FileArguments};
use super::objects;
use super::output;
use super::session::{JSON, Session, object_path};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::client::kinds::CERTIFICATE_SIGNING_REQUESTS;
use http::Method;
use serde_json::{Value, json};

pub(super) const VERB: Verb = Verb {
    name: "certificate",
    about: "Approve or deny certificate signing requests",
    usage: "kubectl certificate (approve | deny) (-f FILE | NAME ...)",
    verbs: &[&APPROVE, &DENY],
    ..Verb::DEFAULT
};

const FLAGS: &[&[Flag]] =
    &[output::FLAGS, manifest::FLAGS, &[switch("force", "Also where it was said already: with a new time")]];

const APPROVE: Verb = Verb {
    name: "approve",
    about: "Let the signer make the certificate",
    usage: "kubectl certificate approve (-f FILE | NAME ...)",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| Box::pin(answer(arguments, session, &YES))),
    ..Verb::DEFAULT
};

const DENY: Verb = Verb {
    name: "deny",
    about: "Refuse the certificate",
    usage: "kubectl certificate deny (-f FILE | NAME ...)",
    flags: FLAGS,
    run: Run::Cluster(|arguments, session| Box::pin(answer(arguments, session, &NO))),
    ..Verb::DEFAULT
};

struct Answer {
    /// The condition, and the one that rules it out.
    condition: &'static str,
    other: &'static str,
    said: &'static str,
    reason: &'static str,
}

const YES: Answer = Answer { condition: "Approved", other: "Denied", said: "approved", reason: "KubectlApprove" };
const NO: Answer = Answer { condition: "Denied", other: "Approved", said: "denied", reason: "KubectlDeny" };

async fn answer(arguments: &Arguments, session: &Session, answer: &'static Answer) -> Outcome<()> {
    let names = arguments.words();
    if names.is_empty() && FileArguments::of(arguments).is_empty() {
        return Err(Failure::local("one or more CSRs must be specified as <name> or -f <filename>"));
    }
    let change = Change::of(arguments, answer.said, "kubectl")?;
    let mut words = names;
    if !words.is_empty() {
        words.insert(0, CERTIFICATE_SIGNING_REQUESTS.plural.to_string());
    }
    let found = objects::find(arguments, &words, session).await?;
    found
        .each(async |found| {
            let mut request = found.object.clone();
            if add(&mut request, answer)? || arguments.on("force") {
                let path = object_path(&CERTIFICATE_SIGNING_REQUESTS, "", &found.name);
                session.write(Method::PUT, &format!("{path}/approval"), JSON, &request).await?;
            }
            change.print(session, &found.object).await
        })
        .await
}

/// Whether the condition is new.
fn add(request: &mut Value, answer: &Answer) -> Outcome<bool> {
    let mut conditions = request.at("status").list_at("conditions").to_vec();
    let is = |condition: &Value, kind: &str| condition.str_at("type") == kind;
    if conditions.iter().any(|condition| is(condition, answer.other)) {
        let name = go_quote(request.at("metadata").str_at("name"));
        return Err(Failure::local(format!("certificate signing request {name} is already {}", answer.other)));
    }
    let new = !conditions.iter().any(|condition| is(condition, answer.condition));
    conditions.retain(|condition| !is(condition, answer.condition));
    conditions.push(json!({
        "type": answer.condition,
        "status": "True",
        "reason": answer.reason,
        "message": format!("This CSR was {} by kubectl certificate {}.", answer.said, if answer.said == "denied" { "deny" } else { "approve" }),
        "lastUpdateTime": crate::api::time::seconds(jiff::Timestamp::now()),
    }));
    request.object_mut("status").set("conditions", conditions);
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_denied_is_not_approved() {
        let mut request = json!({ "metadata": { "name": "a" } });
        assert!(add(&mut request, &NO).expect("said"));
        assert!(!add(&mut request, &NO).expect("said again"));
        assert_eq!(request["status"]["conditions"].as_array().map(Vec::len), Some(1));
        let error = add(&mut request, &YES).expect_err("no").to_string();
        assert_eq!(error, "error: certificate signing request \"a\" is already Denied");
    }
}
