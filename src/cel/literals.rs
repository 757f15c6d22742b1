//! What is wrong with the literals of an expression whose types are right: times and regular
//! expressions that are none, lists and maps of several types, clauses of `format` that do not suit.

use super::declaration::Type;
use super::library::formatting::{self, Clause};
use super::library::{convert, time};
use super::parse::{Issue, Source};
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use std::collections::HashMap;

pub(super) fn problems(root: &IdedExpr, source: &Source, types: &HashMap<u64, Type>) -> Vec<Issue> {
    let mut search = Search { source, types, issues: Vec::new() };
    search.visit(root, false);
    search.issues
}

struct Search<'a> {
    source: &'a Source,
    types: &'a HashMap<u64, Type>,
    issues: Vec<Issue>,
}

impl Search<'_> {
    fn issue(&mut self, id: u64, message: String) {
        self.issues.push(Issue { offset: self.source.offset(id), message });
    }

    /// At a literal; what is negative begins with its sign.
    fn issue_at(&mut self, expression: &IdedExpr, message: String) {
        let negative = match &expression.expr {
            Expr::Literal(LiteralValue::Int(number)) => **number < 0,
            Expr::Literal(LiteralValue::Double(number)) => number.is_sign_negative(),
            _ => false,
        };
        let offset = self.source.offset(expression.id);
        let signed = negative && offset > 0 && self.source.text.as_bytes().get(offset - 1) == Some(&b'-');
        self.issues.push(Issue { offset: offset - usize::from(signed), message });
    }

    fn type_of(&self, expression: &IdedExpr) -> Type {
        self.types.get(&expression.id).cloned().unwrap_or(Type::Dyn)
    }

    /// `mixed`: within a call of `format`, where literals may be of several types.
    fn visit(&mut self, expression: &IdedExpr, mixed: bool) {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
            Expr::Select(select) => self.visit(&select.operand, mixed),
            Expr::Call(call) => {
                let mixed = mixed || call.func_name == "format";
                call.target.iter().for_each(|target| self.visit(target, mixed));
                call.args.iter().for_each(|argument| self.visit(argument, mixed));
                self.call(expression.id, call);
            }
            Expr::List(list) => {
                list.elements.iter().for_each(|element| self.visit(element, mixed));
                if !mixed {
                    self.list(&list.elements, &list.optional_indices);
                }
            }
            Expr::Map(map) => {
                let (mut keys, mut values) = (None, None);
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    self.visit(&entry.key, mixed);
                    self.visit(&entry.value, mixed);
                    if !mixed {
                        self.same(&mut keys, &entry.key, false);
                        self.same(&mut values, &entry.value, entry.optional);
                    }
                }
            }
            Expr::Struct(object) => {
                for entry in &object.entries {
                    if let EntryExpr::StructField(field) = &entry.expr {
                        self.visit(&field.value, mixed);
                    }
                }
            }
            Expr::Comprehension(fold) => {
                for part in [&fold.iter_range, &fold.accu_init, &fold.loop_cond, &fold.loop_step, &fold.result] {
                    self.visit(part, mixed);
                }
            }
        }
    }

    /// The first element that is not like those before it.
    fn list(&mut self, elements: &[IdedExpr], optional: &[usize]) {
        let mut known = None;
        for (index, element) in elements.iter().enumerate() {
            if !self.same(&mut known, element, optional.contains(&index)) {
                return;
            }
        }
    }

    fn same(&mut self, known: &mut Option<Type>, expression: &IdedExpr, optional: bool) -> bool {
        let given = match self.type_of(expression) {
            Type::Optional(inner) if optional => (*inner).clone(),
            other => other,
        };
        match known {
            Some(known) if !known.is_exactly(&given) => {
                let text = format!("expected type '{known}' but found '{given}'");
                self.issue_at(expression, text);
                false
            }
            Some(_) => true,
            None => {
                *known = Some(given);
                true
            }
        }
    }

    fn call(&mut self, id: u64, call: &CallExpr) {
        let Some(first) = call.args.first() else { return };
        if let Expr::Literal(literal) = &first.expr {
            let wrong = match (call.func_name.as_str(), literal) {
                ("duration", LiteralValue::String(text)) => convert::duration(text.inner()).is_none(),
                ("timestamp", LiteralValue::String(text)) => time::Time::parse(text.inner()).is_none(),
                ("timestamp", LiteralValue::Int(seconds)) => time::Time::from_seconds(**seconds).is_none(),
                ("matches", LiteralValue::String(text)) => super::regular_expression(text.inner()).is_err(),
                _ => false,
            };
            if wrong {
                self.issue_at(first, format!("invalid {} argument", call.func_name));
            }
        }
        if call.func_name == "format"
            && let [Expr::List(arguments)] = [&first.expr]
            && call.args.len() == 1
            && let Some(Expr::Literal(LiteralValue::String(text))) = call.target.as_ref().map(|target| &target.expr)
        {
            self.format(id, text.inner(), &arguments.elements);
        }
    }

    fn format(&mut self, id: u64, text: &str, arguments: &[IdedExpr]) {
        let mut seen = 0;
        let outcome = formatting::clauses(text, arguments.len(), |index, clause| {
            seen = index + 1;
            let argument = &arguments[index];
            match clause {
                Clause::Text => self.written(argument),
                clause => self.suits(argument, &clause).then_some(()).ok_or(argument),
            }
            .map_err(|argument| {
                let given = self.type_of(argument);
                (Some(argument.id), format!("error during formatting: {}", clause.refusal(given.value_name())))
            })
        });
        match outcome {
            Err((place, message)) => self.issue(place.unwrap_or(id), message),
            Ok(()) if arguments.len() > seen => self.issue(
                id,
                format!("too many arguments supplied to string.format (expected {seen}, got {})", arguments.len()),
            ),
            Ok(()) => {}
        }
    }

    fn suits(&self, argument: &IdedExpr, clause: &Clause) -> bool {
        let given = self.type_of(argument);
        matches!(given, Type::Dyn) || clause.takes(&given)
    }

    /// Whether `%s` can write it, with all that is in it. Err: what it cannot write.
    fn written<'e>(&self, expression: &'e IdedExpr) -> Result<(), &'e IdedExpr> {
        if !self.suits(expression, &Clause::Text) {
            return Err(expression);
        }
        match &expression.expr {
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.written(element)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.written(&entry.key)?;
                    self.written(&entry.value)
                }
                EntryExpr::StructField(_) => Ok(()),
            }),
            _ => Ok(()),
        }
    }
}
