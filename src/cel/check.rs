//! Type checking: from the parsed tree to one that can run.
//!
//! Names are resolved, calls get the overloads that fit, and every node gets its type, by the rules
//! and with the words of the reference implementation.

use super::Environment;
use super::declaration::{Type, opaque};
use super::infer::Inference;
use super::macros::ACCUMULATOR;
use super::overloads::{self, Functions, Overload};
use super::parse::{Issue, Source};
use super::tree::{Entry, Fold, Kind, Node};
use super::value::Value;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue, SelectExpr, operators,
};
use std::collections::HashMap;
use std::sync::Arc;

pub(super) struct Checked {
    pub root: Node,
    pub types: HashMap<u64, Type>,
}

pub(super) fn check(parsed: &IdedExpr, source: &Source, environment: &Environment) -> Result<Checked, String> {
    let mut checker = Checker {
        environment,
        source,
        inference: Inference::default(),
        types: HashMap::new(),
        locals: Vec::new(),
        issues: Vec::new(),
    };
    let root = checker.node(parsed);
    if !checker.issues.is_empty() {
        return Err(source.report(checker.issues));
    }
    let types = std::mem::take(&mut checker.types);
    let types = types.into_iter().map(|(id, kind)| (id, checker.inference.resolve(&kind, true))).collect();
    let issues = super::literals::problems(parsed, source, &types);
    if !issues.is_empty() {
        return Err(source.report(issues));
    }
    Ok(Checked { root, types })
}

struct Checker<'a> {
    environment: &'a Environment,
    source: &'a Source,
    inference: Inference,
    types: HashMap<u64, Type>,
    /// Variables of comprehensions, the innermost last.
    locals: Vec<(Arc<str>, Type)>,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn issue(&mut self, id: u64, message: String) {
        self.issues.push(Issue { offset: self.source.offset(id), message });
    }

    fn typed(&mut self, id: u64, kind: Kind, of: Type) -> Node {
        self.types.insert(id, of);
        Node { id, kind }
    }

    fn wrong(&mut self, id: u64) -> Node {
        self.typed(id, Kind::Constant(Value::Null), Type::Error)
    }

    fn type_of(&self, node: &Node) -> Type {
        self.types.get(&node.id).cloned().unwrap_or(Type::Error)
    }

    fn undeclared(&mut self, id: u64, name: &str) -> Node {
        self.issue(id, format!("undeclared reference to '{name}' (in container '')"));
        self.wrong(id)
    }

    fn node(&mut self, expression: &IdedExpr) -> Node {
        let id = expression.id;
        match &expression.expr {
            Expr::Unspecified => self.wrong(id),
            Expr::Literal(literal) => {
                let (value, of) = constant(literal);
                self.typed(id, Kind::Constant(value), of)
            }
            Expr::Ident(name) => match self.identifier(id, name.trim_start_matches('.')) {
                Some(node) => node,
                None => self.undeclared(id, name),
            },
            Expr::Select(select) => self.select(expression, select),
            Expr::Call(call) => self.call(id, call),
            Expr::List(list) => self.list(id, &list.elements, &list.optional_indices),
            Expr::Map(map) => self.map(id, &map.entries),
            Expr::Struct(object) => self.object(id, &object.type_name, &object.entries),
            Expr::Comprehension(fold) => self.fold(id, fold),
        }
    }

    /// A variable, or the name of a type.
    fn identifier(&mut self, id: u64, name: &str) -> Option<Node> {
        if let Some((name, of)) = self.locals.iter().rev().find(|(local, _)| **local == *name) {
            let (kind, of) = (Kind::Local(name.clone()), of.clone());
            return Some(self.typed(id, kind, of));
        }
        if let Some((name, declared)) = self.environment.variables.iter().find(|(variable, _)| **variable == *name) {
            let of = declared.type_of();
            return Some(self.typed(id, Kind::Variable(name.clone()), of));
        }
        let of = self.type_named(name)?;
        let value = Value::Type(of.value_name().into());
        Some(self.typed(id, Kind::Constant(value), Type::Type(Arc::new(of))))
    }

    fn type_named(&self, name: &str) -> Option<Type> {
        Some(match name {
            "bool" => Type::Bool,
            "bytes" => Type::Bytes,
            "double" => Type::Double,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "string" => Type::String,
            "null_type" => Type::Null,
            "list" => Type::list(Type::Dyn),
            "map" => Type::map(Type::Dyn, Type::Dyn),
            // Its own type is no type of anything.
            "type" => Type::Opaque("type"),
            "optional_type" => Type::optional(Type::Dyn),
            "google.protobuf.Duration" => Type::Duration,
            "google.protobuf.Timestamp" => Type::Timestamp,
            "net.IP" => Type::Opaque(opaque("IP")),
            "net.CIDR" => Type::Opaque(opaque("CIDR")),
            other => Type::Object(self.environment.object_type(other)?),
        })
    }

    fn select(&mut self, expression: &IdedExpr, select: &SelectExpr) -> Node {
        let id = expression.id;
        if !select.test
            && let Some(name) = qualified_name(expression)
            && let Some(node) = self.identifier(id, &name)
        {
            return node;
        }
        let operand = self.node(&select.operand);
        let of = self.field_type(id, &operand, &select.field, false);
        let of = if select.test { Type::Bool } else { self.inference.resolve(&of, false) };
        let field = select.field.as_str().into();
        let operand = Box::new(operand);
        let kind = if select.test { Kind::Test { operand, field } } else { Kind::Select { operand, field } };
        self.typed(id, kind, of)
    }

    fn field_type(&mut self, id: u64, operand: &Node, field: &str, optional: bool) -> Type {
        let of = self.inference.resolve(&self.type_of(operand), false);
        let (target, was_optional) = unwrap_optional(of);
        let result = match &target {
            Type::Map(pair) => pair.1.clone(),
            Type::Object(object) => match object.field(field) {
                Some(field) => field.declared.type_of(),
                None => {
                    self.issue(id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Variable(_) | Type::Parameter(_) => {
                self.inference.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Opaque(_) => {
                self.issue(id, format!("undefined field '{field}'"));
                Type::Error
            }
            other if other.is_dyn_or_error() => Type::Dyn,
            other => {
                let text = format!("type '{other}' does not support field selection");
                self.issue(id, text);
                Type::Dyn
            }
        };
        if was_optional || optional { Type::optional(result) } else { result }
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Node {
        if call.func_name == operators::OPT_SELECT {
            return self.optional_select(id, call);
        }
        let mut arguments: Vec<Node> = call.args.iter().map(|argument| self.node(argument)).collect();
        if let Some(target) = &call.target {
            let prefix = qualified_name(target);
            if let Some(functions) = prefix.and_then(|prefix| self.functions(&format!("{prefix}.{}", call.func_name))) {
                return self.resolve(id, functions, arguments, false);
            }
            arguments.insert(0, self.node(target));
        }
        let name = call.func_name.trim_start_matches('.');
        match self.functions(name) {
            Some(functions) => self.resolve(id, functions, arguments, call.target.is_some()),
            None => self.undeclared(id, &call.func_name),
        }
    }

    /// The functions of a name. Those of patches are there where patches are made.
    fn functions(&self, name: &str) -> Option<&'static Functions> {
        overloads::find(name).filter(|_| self.environment.objects.is_some() || !name.starts_with("jsonpatch."))
    }

    fn optional_select(&mut self, id: u64, call: &CallExpr) -> Node {
        let [operand, field] = call.args.as_slice() else { return self.wrong(id) };
        let Expr::Literal(LiteralValue::String(field)) = &field.expr else { return self.wrong(id) };
        let operand = self.node(operand);
        let of = self.field_type(id, &operand, field, true);
        let of = self.inference.resolve(&of, false);
        let field = field.inner().into();
        self.typed(id, Kind::OptionalSelect { operand: Box::new(operand), field }, of)
    }

    /// The overloads that fit, and the type that the call has by them.
    fn resolve(&mut self, id: u64, functions: &'static Functions, arguments: Vec<Node>, member: bool) -> Node {
        let given: Vec<Type> = arguments.iter().map(|argument| self.type_of(argument)).collect();
        if matches!(functions.name, operators::LOGICAL_AND | operators::LOGICAL_OR) {
            return self.logical(id, functions.name, arguments, &given);
        }
        let mut result: Option<Type> = None;
        let mut fitting: Vec<&'static Overload> = Vec::new();
        for overload in functions.overloads.iter().filter(|overload| overload.member == member) {
            let Some(of) = self.inference.instantiate(overload, &given) else { continue };
            fitting.push(overload);
            result = Some(match result {
                None => of,
                Some(known) if matches!(known, Type::Dyn) || known.is_exactly(&of) => known,
                Some(_) => Type::Dyn,
            });
        }
        let Some(of) = result else {
            let given: Vec<Type> = given.iter().map(|given| self.inference.resolve(given, true)).collect();
            let text = signature(&given, member);
            self.issue(id, format!("found no matching overload for '{}' applied to '{text}'", functions.name));
            return self.wrong(id);
        };
        let kind = super::tree::call(functions.name, fitting, member, arguments);
        self.typed(id, kind, of)
    }

    fn logical(&mut self, id: u64, name: &str, arguments: Vec<Node>, given: &[Type]) -> Node {
        for (argument, given) in arguments.iter().zip(given) {
            if !self.inference.assign(given, &Type::Bool) {
                self.mismatch(argument.id, &Type::Bool, given);
            }
        }
        let Ok([left, right]) = <[Node; 2]>::try_from(arguments) else { return self.wrong(id) };
        let pair = Box::new((left, right));
        let kind = if name == operators::LOGICAL_AND { Kind::And(pair) } else { Kind::Or(pair) };
        self.typed(id, kind, Type::Bool)
    }

    fn mismatch(&mut self, id: u64, wanted: &Type, given: &Type) {
        let wanted = self.inference.resolve(wanted, true);
        let given = self.inference.resolve(given, true);
        self.issue(id, format!("expected type '{wanted}' but found '{given}'"));
    }

    fn list(&mut self, id: u64, elements: &[IdedExpr], optional: &[usize]) -> Node {
        let mut of: Option<Type> = None;
        let mut nodes = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let node = self.node(element);
            let is_optional = optional.contains(&index);
            let given = self.entry_type(&node, is_optional);
            of = Some(self.join(of, given));
            nodes.push((node, is_optional));
        }
        let of = of.unwrap_or_else(|| self.inference.fresh());
        self.typed(id, super::tree::list(nodes), Type::list(of))
    }

    fn entry_type(&mut self, node: &Node, optional: bool) -> Type {
        let given = self.type_of(node);
        if !optional {
            return given;
        }
        let resolved = self.inference.resolve(&given, false);
        let (inner, was_optional) = unwrap_optional(resolved);
        if !was_optional && !matches!(inner, Type::Dyn) {
            self.mismatch(node.id, &Type::optional(inner.clone()), &inner);
        }
        inner
    }

    /// What goes with all of them; that a literal is of several types is for [`super::literals`] to say.
    fn join(&mut self, known: Option<Type>, given: Type) -> Type {
        let Some(known) = known else { return given };
        if self.inference.assign(&known, &given) {
            return super::infer::most_general(known, given);
        }
        Type::Dyn
    }

    fn map(&mut self, id: u64, entries: &[IdedEntryExpr]) -> Node {
        let (mut key_type, mut value_type) = (None, None);
        let mut made = Vec::with_capacity(entries.len());
        for entry in entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
            let key = self.node(&entry.key);
            let given = self.type_of(&key);
            key_type = Some(self.join(key_type, given));
            let value = self.node(&entry.value);
            let given = self.entry_type(&value, entry.optional);
            value_type = Some(self.join(value_type, given));
            made.push(Entry { key, value, optional: entry.optional });
        }
        let key_type = key_type.unwrap_or_else(|| self.inference.fresh());
        let value_type = value_type.unwrap_or_else(|| self.inference.fresh());
        self.typed(id, Kind::Map(made), Type::map(key_type, value_type))
    }

    fn object(&mut self, id: u64, name: &str, entries: &[IdedEntryExpr]) -> Node {
        let Some(object) = self.environment.object_type(name.trim_start_matches('.')) else {
            return self.undeclared(id, name);
        };
        let mut fields = Vec::with_capacity(entries.len());
        for entry in entries {
            let EntryExpr::StructField(field) = &entry.expr else { continue };
            let value = self.node(&field.value);
            let given = self.entry_type(&value, field.optional);
            let Some(declared) = object.field(&field.field) else {
                self.issue(entry.id, format!("undefined field '{}'", field.field));
                continue;
            };
            let wanted = declared.declared.type_of();
            if !self.inference.assign(&wanted, &given) {
                let given = self.inference.resolve(&given, true);
                let name = &field.field;
                self.issue(
                    entry.id,
                    format!("expected type of field '{name}' is '{wanted}' but provided type is '{given}'"),
                );
            }
            fields.push((declared.name, value, field.optional));
        }
        let name = object.name().into();
        self.typed(id, Kind::Object { name, fields }, Type::Object(object))
    }

    fn fold(&mut self, id: u64, fold: &ComprehensionExpr) -> Node {
        let range = self.node(&fold.iter_range);
        let init = self.node(&fold.accu_init);
        let of = self.inference.resolve(&self.type_of(&range), false);
        let accumulated = self.type_of(&init);
        let depth = self.locals.len();
        let accumulator: Arc<str> = fold.accu_var.as_str().into();
        self.locals.push((accumulator.clone(), accumulated.clone()));
        let (first, second) = match &of {
            Type::List(element) => match fold.iter_var2 {
                Some(_) => (Type::Int, (**element).clone()),
                None => ((**element).clone(), Type::Error),
            },
            Type::Map(pair) => (pair.0.clone(), pair.1.clone()),
            Type::Dyn | Type::Error | Type::Variable(_) | Type::Parameter(_) => {
                self.inference.assign(&Type::Dyn, &of);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let text = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.issue(range.id, text);
                (Type::Error, Type::Error)
            }
        };
        let variable: Arc<str> = fold.iter_var.as_str().into();
        let second_variable: Option<Arc<str>> = fold.iter_var2.as_deref().map(Into::into);
        self.locals.push((variable.clone(), first));
        if let Some(name) = &second_variable {
            self.locals.push((name.clone(), second));
        }
        let condition = self.node(&fold.loop_cond);
        self.assert(&condition, &Type::Bool);
        let step = self.node(&fold.loop_step);
        self.assert(&step, &accumulated);
        self.locals.truncate(depth + 1);
        let result = self.node(&fold.result);
        self.locals.truncate(depth);
        let of = self.inference.resolve(&self.type_of(&result), false);
        let bind = *accumulator != *ACCUMULATOR;
        let fold = Fold { range, variable, second: second_variable, accumulator, init, condition, step, result, bind };
        self.typed(id, Kind::Fold(Box::new(fold)), of)
    }

    fn assert(&mut self, node: &Node, wanted: &Type) {
        let given = self.type_of(node);
        if !self.inference.assign(wanted, &given) {
            self.mismatch(node.id, wanted, &given);
        }
    }
}

fn constant(literal: &LiteralValue) -> (Value<'static>, Type) {
    match literal {
        LiteralValue::Boolean(bool) => (Value::Bool(**bool), Type::Bool),
        LiteralValue::Bytes(bytes) => (Value::Bytes(bytes.inner().into()), Type::Bytes),
        LiteralValue::Double(number) => (Value::Double(**number), Type::Double),
        LiteralValue::Int(number) => (Value::Int(**number), Type::Int),
        LiteralValue::UInt(number) => (Value::Uint(**number), Type::Uint),
        LiteralValue::Null => (Value::Null, Type::Null),
        LiteralValue::String(text) => (text.inner().into(), Type::String),
    }
}

/// `a.b.c`; None: it is more than names.
fn qualified_name(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.trim_start_matches('.').to_owned()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", qualified_name(&select.operand)?, select.field)),
        _ => None,
    }
}

fn unwrap_optional(of: Type) -> (Type, bool) {
    match of {
        Type::Optional(inner) => ((*inner).clone(), true),
        other => (other, false),
    }
}

fn signature(given: &[Type], member: bool) -> String {
    let text = |types: &[Type]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match given.split_first() {
        Some((target, rest)) if member => format!("{target}.({})", text(rest)),
        _ => format!("({})", text(given)),
    }
}
